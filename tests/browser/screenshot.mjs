// Makes docs/images/start.png, the picture in README.md: `make screenshot`.

import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { House, launch, root, watchedPage } from './house.mjs'

const file = path.join(root, 'docs', 'images', 'start.png')
mkdirSync(path.dirname(file), { recursive: true })

const house = await House.start()
const browser = await launch()
try {
  const { page, trouble } = await watchedPage(browser, house, { viewport: { width: 1100, height: 720 }, colorScheme: 'light' })
  await page.goto(house.url, { waitUntil: 'load' })
  await page.screenshot({ path: file })
  if (trouble.length > 0) throw new Error(trouble.join('\n'))
  console.log(path.relative(root, file))
} finally {
  await browser.close()
  await house.stop()
}
