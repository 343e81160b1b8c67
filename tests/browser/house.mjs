// A house for the browser tests: the real binary on a data directory and a loopback port of its own, and a
// Chromium with a profile of its own. The same manners as tests/lib/house.py: the server is ended by its
// process id and must end with status 0.

import { execFile, spawn } from 'node:child_process'
import { createWriteStream, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { chromium } from 'playwright-core'

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')
const target = path.resolve(root, process.env.CARGO_TARGET_DIR ?? 'target')
// Not called ALLSWELL_...: the server refuses settings it does not know.
const binary = process.env.TEST_BINARY ?? path.join(target, 'debug', 'allswell')
const browserBinary = process.env.CHROMIUM ?? '/usr/bin/chromium'
const startMs = 30_000
const stopMs = 30_000

async function freePort() {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

export class House {
  static async start() {
    if (!existsSync(binary)) throw new Error(`${binary} is not there: run \`make build-debug\` first, or set TEST_BINARY`)
    const house = new House()
    house.dir = mkdtempSync(path.join(tmpdir(), 'allswell-test-'))
    house.log = path.join(house.dir, 'server.log')
    house.port = await freePort()
    house.url = `http://127.0.0.1:${house.port}`
    const log = createWriteStream(house.log)
    house.server = spawn(binary, ['serve'], { env: house.env(), cwd: house.dir, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    house.server.stdout.pipe(log, { end: false })
    house.server.stderr.pipe(log, { end: false })
    house.ended = once(house.server, 'exit')
    const end = Date.now() + startMs
    while (Date.now() < end && house.server.exitCode === null) {
      const ready = await fetch(`${house.url}/readyz`).then((r) => r.status === 200, () => false)
      if (ready && house.server.exitCode === null) return house
      await pause(50)
    }
    const tail = house.tail()
    house.server.kill('SIGKILL')
    rmSync(house.dir, { recursive: true, force: true })
    throw new Error(`the server was not ready within ${startMs} ms\n${tail}`)
  }

  // Nothing of the caller's own settings reaches the server.
  env() {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('ALLSWELL_') && !/_proxy$/i.test(name)))
    return { ...env, ALLSWELL_LISTEN: `127.0.0.1:${this.port}`, ALLSWELL_SITE_URL: this.url, ALLSWELL_DATA_DIR: path.join(this.dir, 'data') }
  }

  async cli(...args) {
    const { stdout } = await promisify(execFile)(binary, args, { env: this.env(), cwd: this.dir, timeout: 60_000 })
    return stdout
  }

  // A fresh one-time start link, as the command prints it.
  async startLink() {
    const said = await this.cli('start-link')
    const link = said.match(/https?:\/\/\S+\/start\/[^\s"]+/)
    if (!link) throw new Error(`\`allswell start-link\` printed no link:\n${said}`)
    return link[0]
  }

  tail() {
    return existsSync(this.log) ? readFileSync(this.log, 'utf8').split('\n').slice(-40).join('\n') : ''
  }

  async stop() {
    this.server.kill('SIGTERM')
    const timer = setTimeout(() => this.server.kill('SIGKILL'), stopMs)
    const [status, signal] = await this.ended
    clearTimeout(timer)
    const tail = this.tail()
    rmSync(this.dir, { recursive: true, force: true })
    if (status !== 0) throw new Error(`the server ended with ${status ?? signal} after SIGTERM\n${tail}`)
  }
}

// playwright makes an empty profile directory for each launch and removes it. The flags keep Chromium from
// calling its maker: tests speak to loopback only.
export function launch() {
  return chromium.launch({
    executablePath: browserBinary,
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
}

// A page of a context of its own, with everything that went wrong in it: console errors and warnings, uncaught
// exceptions, failed requests, refused content, and requests to anywhere but the house.
export async function watchedPage(browser, house, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
  const page = await context.newPage()
  const trouble = []
  page.on('console', (m) => ['error', 'warning'].includes(m.type()) && trouble.push(`console ${m.type()}: ${m.text()}`))
  page.on('pageerror', (e) => trouble.push(`exception: ${e}`))
  page.on('requestfailed', (r) => trouble.push(`failed: ${r.url()} ${r.failure()?.errorText}`))
  page.on('request', (r) => r.url().startsWith(house.url + '/') || r.url().startsWith('data:') || trouble.push(`outside: ${r.url()}`))
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} refused ${e.blockedURI}`))
  })
  return { page, trouble, close: () => context.close() }
}
