/**
 * The console's figures (docs/PERFORMANCE.md), printed as JSON: `cargo xtask dashboard --figures`.
 *
 * Bytes go over the wire of a fresh profile; times are the browser's own. Every figure has its floor or its other size
 * beside it, from the same run.
 */
import type { Browser, Page } from 'playwright-core'
import { launch, Tab } from './browser'
import { type FakeDevice, HEXA, Server, until } from './server'

const FEW = 100
const MANY = Number(process.env.HEXA_FIGURES_DEVICES ?? 10_000)
/** One of the figures alone: `first_load`, `click`, `storm`. */
const ONLY = process.env.HEXA_FIGURES_ONLY ?? ''
const AT_ONCE = 32
const CLICKS = 60
const CHANGES_PER_S = 500
const SECONDS = 6

const say = (line: string) => process.stderr.write(`${line}\n`)
const quantile = (values: number[], q: number) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(q * values.length))] ?? NaN
const round = (value: number) => Math.round(value * 10) / 10

/** Provisions devices, which stay offline. */
async function provision(server: Server, count: number): Promise<void> {
  const made = await Promise.all(Array.from({ length: AT_ONCE }, async (_, worker) => {
    let n = 0
    for (let i = worker; i < count; i += AT_ONCE, n += 1) await server.provision(4)
    return n
  }))
  say(`provisioned ${made.reduce((a, b) => a + b, 0)} devices`)
}

interface Load {
  requests: number
  bytes: number
  api_bytes: number
  interactive_ms: number
}

/** Loads the device list, signed in and with an empty cache. */
async function firstLoad(browser: Browser, server: Server): Promise<Load> {
  const tab = await Tab.open(browser, server.url)
  await tab.signIn(server.admin.email)
  await tab.go('/preferences')
  const { page } = tab
  const network = await tab.context.newCDPSession(page)
  await network.send('Network.enable')
  await network.send('Network.setCacheDisabled', { cacheDisabled: true })
  let [requests, bytes, api] = [0, 0, 0]
  const urls = new Map<string, string>()
  network.on('Network.requestWillBeSent', (e) => urls.set(e.requestId, e.request.url))
  network.on('Network.loadingFinished', (e) => {
    requests += 1
    bytes += e.encodedDataLength
    if (urls.get(e.requestId)?.includes('/api/') === true) api += e.encodedDataLength
  })
  await page.goto(`${server.url}/dashboard/devices`, { waitUntil: 'commit' })
  await page.locator('[data-uid]').first().waitFor()
  // From the navigation's start to a list that answers: its rows are drawn and the main thread is free.
  const interactive = await page.evaluate(() => new Promise<number>((done) => requestIdleCallback(() => done(performance.now()))))
  await tab.waitUntilLoaded()
  const load = { requests, bytes, api_bytes: api, interactive_ms: round(interactive) }
  await tab.close()
  return load
}

async function median(runs: number, once: () => Promise<Load>): Promise<Load> {
  const all: Load[] = []
  for (let n = 0; n < runs; n += 1) all.push(await once())
  return all.sort((a, b) => a.interactive_ms - b.interactive_ms)[Math.floor(runs / 2)] as Load
}

/** The time from the click to the confirmed state on the page, beside the latency that the server reports. */
async function clicks(browser: Browser, server: Server, device: FakeDevice) {
  const tab = await Tab.open(browser, server.url)
  await tab.signIn(server.admin.email)
  await tab.go(`/devices/${device.uid}`)
  const { page } = tab
  await page.getByText('Live', { exact: true }).waitFor()
  const latencies: number[] = []
  page.on('response', (response) => {
    if (response.url().includes('/relays/')) void response.json().then((body: { latency_ms: number }) => latencies.push(body.latency_ms))
  })
  const shown: number[] = []
  for (let n = 0; n < CLICKS; n += 1) {
    shown.push(
      await page.evaluate(
        () =>
          new Promise<number>((done) => {
            const relay = document.querySelector('[data-relay="0"]')
            const before = relay?.getAttribute('data-state')
            const start = performance.now()
            const watch = new MutationObserver(() => {
              if (relay?.getAttribute('data-state') === before) return
              watch.disconnect()
              done(performance.now() - start)
            })
            if (relay !== null) watch.observe(relay, { attributes: true })
            relay?.querySelector<HTMLInputElement>('[role=switch]')?.click()
          }),
      ),
    )
    await page.locator('[data-relay="0"]:not([data-command="pending"])').waitFor()
  }
  await until('every latency is known', () => latencies.length >= CLICKS)
  await tab.close()
  return { clicks: CLICKS, shown_p50_ms: round(quantile(shown, 0.5)), shown_p95_ms: round(quantile(shown, 0.95)), command_p95_ms: round(quantile(latencies, 0.95)) }
}

/** The frames that the page paints while states change. */
async function frames(page: Page): Promise<{ per_s: number; longest_ms: number }> {
  return page.evaluate(
    (seconds) =>
      new Promise((done) => {
        const start = performance.now()
        let [count, last, longest] = [0, start, 0]
        const next = (now: number) => {
          count += 1
          longest = Math.max(longest, now - last)
          last = now
          if (now - start < seconds * 1000) requestAnimationFrame(next)
          else done({ per_s: Math.round((count * 10_000) / (now - start)) / 10, longest_ms: Math.round(longest) })
        }
        requestAnimationFrame(next)
      }),
    SECONDS,
  )
}

async function storm(browser: Browser, server: Server) {
  const owner = await server.register('storm@hexa.local', 'Storm')
  const devices: FakeDevice[] = []
  for (let n = 0; n < 20; n += 1) devices.push(await server.createDevice(owner, 4, `Storm ${n}`))
  const tab = await Tab.open(browser, server.url)
  await tab.signIn(owner.email)
  await tab.page.getByText('Live', { exact: true }).waitFor()
  await until('all are shown', async () => (await tab.page.locator('[data-relay]').count()) === 80)
  const still = await frames(tab.page)
  let changes = 0
  const begun = Date.now()
  const timer = setInterval(() => {
    // As many as are due by now, so that a late timer catches up.
    for (const due = ((Date.now() - begun) / 1000) * CHANGES_PER_S; changes < due; changes += 1) {
      const device = devices[changes % devices.length]
      const index = Math.floor(changes / devices.length) % 4
      device?.setByHand(index, !(device.state[index] ?? false))
    }
  }, 10)
  const busy = await frames(tab.page)
  const took = (Date.now() - begun) / 1000
  clearInterval(timer)
  await tab.close()
  return { changes_per_s: Math.round(changes / took), devices: devices.length, still, busy }
}

const browser = await launch()
const few = await Server.start()
const many = await Server.start()
try {
  say(`measuring ${HEXA}`)
  await provision(few, FEW)
  await provision(many, ONLY === 'storm' ? 0 : MANY)
  const wanted = (what: string) => ONLY === '' || ONLY === what
  const result = {
    ...(wanted('first_load') && {
      first_load: { [FEW]: await median(5, () => firstLoad(browser, few)), [MANY]: await median(5, () => firstLoad(browser, many)) },
    }),
    ...(wanted('click') && { click: await clicks(browser, many, await many.createDevice(many.admin, 4, 'Clicked')) }),
    ...(wanted('storm') && { storm: await storm(browser, few) }),
  }
  process.stdout.write(`${JSON.stringify(result, null, 2)}\n`)
} finally {
  await browser.close()
  await Promise.all([few.stop(), many.stop()])
}
