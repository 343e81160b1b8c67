// The pages that exist, as a visitor meets them. Assertions are on meaning: words, reachability, readability.
// How a page looks is its own affair.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { House, launch, watchedPage } from './house.mjs'

let house, browser

before(async () => {
  house = await House.start()
  browser = await launch()
})

after(async () => {
  await browser?.close()
  await house?.stop()
})

// Opens a page, runs `look` on it, and fails on any trouble the browser saw.
async function visit(address, look, options, { expectStatus = 200 } = {}) {
  const { page, trouble, close } = await watchedPage(browser, house, options)
  try {
    const response = await page.goto(new URL(address, house.url).href, { waitUntil: 'load' })
    assert.equal(response.status(), expectStatus)
    await look(page, response)
    // Chromium reports a page's own 4xx as a console error; that one is expected.
    const rest = expectStatus < 400 ? trouble : trouble.filter((t) => !/status of 4\d\d/.test(t))
    assert.deepEqual(rest, [])
  } finally {
    await close()
  }
}

// Relative luminance and contrast as WCAG 2 defines them, of the text and the ground it stands on.
const contrastOfText = (page) =>
  page.evaluate(() => {
    const canvas = document.createElement('canvas')
    canvas.width = canvas.height = 1
    const context = canvas.getContext('2d', { willReadFrequently: true })
    // Drawing lets the browser turn any way of writing a colour into red, green, blue and opacity.
    const rgba = (colour) => {
      context.clearRect(0, 0, 1, 1)
      context.fillStyle = colour
      context.fillRect(0, 0, 1, 1)
      return [...context.getImageData(0, 0, 1, 1).data]
    }
    const light = ([r, g, b]) => {
      const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
      return 0.2126 * x + 0.7152 * y + 0.0722 * z
    }
    const dark = matchMedia('(prefers-color-scheme: dark)').matches
    const scheme = getComputedStyle(document.documentElement).colorScheme
    const ground = (el) => {
      for (let e = el; e; e = e.parentElement) {
        const c = rgba(getComputedStyle(e).backgroundColor)
        if (c[3] === 255) return c
      }
      return dark && scheme.includes('dark') ? [18, 18, 18, 255] : [255, 255, 255, 255]
    }
    const texts = [...document.querySelectorAll('body *')].filter(
      (e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim()) && e.getClientRects().length && !['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(e.tagName),
    )
    return texts.map((e) => {
      const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x)
      return { text: e.textContent.trim().slice(0, 40), contrast: (a + 0.05) / (b + 0.05) }
    })
  })

const groundLuminance = (page) =>
  page.evaluate(() => {
    const colours = [document.body, document.documentElement].map((e) => getComputedStyle(e).backgroundColor)
    const opaque = colours.find((c) => c !== 'rgba(0, 0, 0, 0)' && c !== 'transparent')
    const canvas = document.createElement('canvas').getContext('2d')
    canvas.fillStyle = opaque ?? 'Canvas'
    canvas.fillRect(0, 0, 1, 1)
    const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data
    return (r + g + b) / 3
  })

test('the first page says what this is', async () => {
  await visit('/', async (page) => {
    assert.match(await page.title(), /Allswell/)
    const headline = await page.locator('h1').allInnerTexts()
    assert.equal(headline.length, 1)
    assert.notEqual(headline[0].trim(), '')
    const text = await page.locator('body').innerText()
    assert.match(text, /check|ping|monitor/i)
    assert.notEqual(await page.locator('html').getAttribute('lang'), null)
  })
})

test('the answers forbid what the pages do not need', async () => {
  const { headers } = await fetch(house.url)
  const policy = headers.get('content-security-policy') ?? ''
  assert.match(policy, /default-src 'none'/)
  assert.match(policy, /frame-ancestors 'none'/)
  assert.doesNotMatch(policy, /unsafe-/)
  assert.equal(headers.get('x-content-type-options'), 'nosniff')
  assert.notEqual(headers.get('referrer-policy'), null)
})

test('a script that somebody injects does not run', async () => {
  const { page, trouble, close } = await watchedPage(browser, house)
  await page.goto(house.url)
  // Awaiting the refusal makes this fail, by its time limit, when no policy is in force.
  const ran = await page.evaluate(() => {
    const refused = new Promise((done) => document.addEventListener('securitypolicyviolation', done, { once: true }))
    const script = document.createElement('script')
    script.textContent = 'window.injected = true'
    document.head.append(script)
    return window.injected === true || refused.then(() => window.injected === true)
  })
  assert.equal(ran, false)
  assert.ok(trouble.some((t) => t.includes('script-src')), 'the watch on policy violations works')
  await close()
})

for (const colorScheme of ['light', 'dark']) {
  test(`the first page is readable in a ${colorScheme} scheme`, async () => {
    await visit('/', async (page) => {
      const ground = await groundLuminance(page)
      assert.ok(colorScheme === 'dark' ? ground < 100 : ground > 155, `the ground is ${ground} of 255`)
      const faint = (await contrastOfText(page)).filter((t) => t.contrast < 4.5)
      assert.deepEqual(faint, [])
    }, { colorScheme })
  })
}

test('the pages fit a telephone of 360 pixels', async () => {
  const link = await house.startLink()
  const options = { viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true }
  for (const address of ['/', link, '/start/unknown']) {
    await visit(address, async (page) => {
      const { wide, view } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, view: innerWidth }))
      assert.ok(wide <= 360 && view === 360, `${address} is ${wide} wide in a window of ${view}`)
    }, options, { expectStatus: address === '/start/unknown' ? 404 : 200 })
  }
})

test('the first page needs no script', async () => {
  await visit('/', async (page) => {
    assert.notEqual((await page.locator('h1').innerText()).trim(), '')
  }, { javaScriptEnabled: false })
})

test('the headline of the first page is no status', async () => {
  await visit('/', async (page) => {
    assert.equal((await page.locator('h1').innerText()).trim(), 'Allswell')
  })
})

test('no command is broken, however small the window', async () => {
  const link = await house.startLink()
  for (const [width, height] of [[1280, 800], [390, 844]]) {
    for (const address of ['/', link]) {
      await visit(address, async (page) => {
        // Each line as it is written has one line on the screen.
        const broken = await page.evaluate(() => [...document.querySelectorAll('pre')].filter((pre) => {
          const style = getComputedStyle(pre)
          const height = pre.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom)
          return Math.round(height / parseFloat(style.lineHeight)) !== pre.textContent.split('\n').length
        }).map((pre) => pre.textContent))
        assert.deepEqual(broken, [], `${address} at ${width}`)
      }, { viewport: { width, height } })
    }
  }
})

test('the start link shows the commands for the first account, project, channel, check and key', async () => {
  await visit(await house.startLink(), async (page, response) => {
    const text = await page.locator('body').innerText()
    for (const command of ['allswell user create', 'allswell project create', 'allswell api-key create', 'allswell channel create', 'allswell channel test', 'allswell check create', '&& rm password']) {
      assert.ok(text.includes(command), `${command} is missing`)
    }
    assert.match(text, /curl/)
    assert.match(text, /twelve characters/)
    // A page behind a secret address stays out of caches and of other sites' logs.
    assert.match(response.headers()['cache-control'] ?? '', /no-store/)
    assert.match(response.headers()['referrer-policy'] ?? '', /no-referrer|same-origin/)
  })
})

test('each start link is a link of its own', async () => {
  const [first, second] = [await house.startLink(), await house.startLink()]
  assert.notEqual(first, second)
  await visit(second, async () => {})
})

test('an unknown start link says what to do', async () => {
  await visit('/start/no-such-link', async (page) => {
    assert.match(await page.locator('body').innerText(), /allswell start-link/)
  }, {}, { expectStatus: 404 })
})

test('a page that does not exist says so', async () => {
  await visit('/no/such/page', async (page) => {
    assert.match(await page.locator('body').innerText(), /not found|no page|nothing here/i)
  }, {}, { expectStatus: 404 })
})
