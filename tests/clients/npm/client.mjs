// What a Node.js program does with healthchecks-io-client; the outcome goes to standard output as JSON.
//
//     node client.mjs BASE_URL API_KEY
import { createRequire } from "node:module";

const { HealthChecksApiClient, HealthChecksPingClient } = createRequire(import.meta.url)("healthchecks-io-client");
const [baseUrl, apiKey] = process.argv.slice(2);
const told = {};

for (const apiVersion of [1, 2, 3]) {
  const api = new HealthChecksApiClient({ apiKey, baseUrl, apiVersion, maxContentLength: 1_000_000 });
  const made = await api.createCheck({ name: `npm v${apiVersion}`, tags: "npm", timeout: 3600, grace: 120, channels: "*" });
  const uuid = made.ping_url.split("/").pop();

  const pings = new HealthChecksPingClient({ uuid, baseUrl: `${baseUrl}/ping`, returnResponse: true });
  const answers = [await pings.start(), await pings.fail("it broke"), await pings.success("all is well"), await pings.success()];

  const updated = await api.updateCheck(uuid, { desc: "changed" });
  const listed = await api.getChecks(["npm"]);
  const shown = await api.getCheck(uuid);
  const logged = await api.listPings(uuid);
  const flips = await api.listFlips(uuid, { seconds: 3600 });
  const integrations = await api.getIntegrations();
  const paused = await api.pauseCheck(uuid);
  const deleted = await api.deleteCheck(uuid);
  let gone;
  try {
    await api.getCheck(uuid);
  } catch (error) {
    gone = error.statusCode;
  }
  told[apiVersion] = {
    answers,
    gone,
    desc: updated.desc,
    listed: listed.checks.map((check) => check.name),
    status: shown.status,
    pings: logged.pings.map((ping) => ping.type),
    flips: flips.flips ? flips.flips.map((flip) => flip.up) : flips.map((flip) => flip.up),
    integrations: integrations.channels.map((channel) => channel.name),
    paused: paused.status,
    deleted: deleted.name,
  };
}

try {
  await new HealthChecksApiClient({ apiKey: "x".repeat(32), baseUrl }).getChecks();
} catch (error) {
  told.wrong_key = error.statusCode;
}
console.log(JSON.stringify(told));
