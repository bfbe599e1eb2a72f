/** Makes the screenshots of docs/images, with devices that are in use: `cargo xtask dashboard --images`. */
import { resolve } from 'node:path'

process.env.HEXA_SHOTS = resolve(import.meta.dirname, '../../docs/images')
const { launch, Tab } = await import('./browser')
const { Server } = await import('./server')

const ROOMS = ['Porch', 'Kitchen', 'Pump room', 'Greenhouse', 'Garage', 'Workshop', 'Cellar', 'Attic']
const RELAYS = ['Door light', 'Path', 'Bell', 'Heater']
/** Long enough for the charts to have a shape. */
const SECONDS = Number(process.env.HEXA_IMAGES_S ?? 150)

const [server, browser] = await Promise.all([Server.start(), launch()])
try {
  const neighbour = await server.register('ulla@hexa.local', 'Ulla User')
  const devices = await Promise.all(ROOMS.map((name) => server.createDevice(server.admin, 4, name)))
  const [porch, , , , , , , attic] = devices
  if (porch === undefined || attic === undefined) throw new Error('devices are missing')
  for (const device of devices) {
    const relays = RELAYS.map((name, index) => ({ index, name }))
    await server.call('PATCH', `/api/v1/devices/${device.uid}`, server.admin.token, { relays })
  }
  await server.call('POST', `/api/v1/devices/${porch.uid}/grants`, server.admin.token, { email: neighbour.email, access: 'control', relays: [0, 1] })
  const tab = await Tab.open(browser, server.url, { colorScheme: 'dark', viewport: { width: 1280, height: 900 } })
  await tab.signIn(server.admin.email)
  await tab.go('/metrics')
  const start = Date.now()
  for (let n = 0; Date.now() - start < SECONDS * 1000; n += 1) {
    const second = (Date.now() - start) / 1000
    const turn = Math.floor(n / 6)
    const device = devices[n % 6] ?? porch
    device.behaviour = n % 40 === 39 ? 'reject' : 'ack'
    device.delayMs = 4 + (n % 9)
    await server.call('POST', `/api/v1/devices/${device.uid}/relays/${turn % 4}`, server.admin.token, { state: (turn + (n % 6)) % 3 !== 0 }).catch(() => undefined)
    // The use of a home in the evening, not a load test.
    await new Promise((next) => setTimeout(next, 60 + 90 * (1 + Math.sin(second / 11))))
  }
  porch.behaviour = 'ack'
  porch.press(1)
  attic.disconnect()
  await tab.screenshot('metrics-dark')
  for (const [path, name] of [['/overview', 'overview-dark'], ['/devices', 'devices-dark']] as const) {
    await tab.page.goto(`${server.url}/dashboard${path}`)
    await tab.waitUntilLoaded()
    if (path === '/devices') await tab.page.getByText('Live', { exact: true }).waitFor()
    await tab.screenshot(name)
  }
  await tab.close()
  for (const [path, name, options] of [
    [`/devices/${porch.uid}`, 'device-light', { viewport: { width: 1280, height: 900 } }],
    ['/audit', 'audit-light', { viewport: { width: 1280, height: 900 } }],
    ['/home', 'home-phone', { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }],
  ] as const) {
    const other = await Tab.open(browser, server.url, { colorScheme: 'light', ...options })
    await other.signIn(server.admin.email)
    await other.go(path)
    // The badge is “Live” once the socket is open.
    if (path !== '/audit') await other.page.getByText('Live', { exact: true }).waitFor()
    await other.screenshot(name)
    await other.close()
  }
} finally {
  await browser.close()
  await server.stop()
}
