import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, Tab } from './browser'
import { type FakeDevice, Server, until, type User } from './server'

let server: Server
let browser: Browser
let user: User
let lamp: FakeDevice

beforeAll(async () => {
  ;[server, browser] = await Promise.all([Server.start(), launch()])
  user = await server.register('ulla@hexa.local', 'Ulla User')
  const names = ['Porch', 'Kitchen', 'Pump house', 'Greenhouse']
  for (const name of names) {
    const device = await server.device(server.admin, 4, name)
    if (name === 'Porch') lamp = device
  }
  const relays = [{ index: 0, name: 'Door light' }, { index: 1, name: 'Path' }, { index: 2, name: 'Bell' }]
  await server.call('PATCH', `/api/v1/devices/${lamp.uid}`, server.admin.token, { relays })
  await server.call('POST', `/api/v1/devices/${lamp.uid}/grants`, server.admin.token, { email: user.email, access: 'control', relays: [0, 1] })
  await server.device(user, 2, 'Garage')
  await server.call('POST', '/api/v1/admin/invitations', server.admin.token, { note: 'The neighbour', email: 'nora@hexa.local' })
  for (const [relay, state] of [[0, true], [1, true], [1, false], [2, true]] as const)
    await server.call('POST', `/api/v1/devices/${lamp.uid}/relays/${relay}`, server.admin.token, { state })
  lamp.press(1)
})

afterAll(async () => {
  await browser.close()
  await server.stop()
})

const LOOKS = [
  { name: 'light', options: { colorScheme: 'light' } },
  { name: 'dark', options: { colorScheme: 'dark' } },
  { name: 'phone', options: { colorScheme: 'light', viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true } },
] as const

test.each(LOOKS)('every page of the console, $name', async ({ name, options }) => {
  const tab = await Tab.open(browser, server.url, options)
  const { page } = tab
  await page.goto(`${server.url}/`)
  await page.getByLabel('E-mail').waitFor()
  await tab.accessible('sign in')
  await tab.shot(`login-${name}`)
  await tab.signIn(server.admin.email)
  const pages: [string, string, string][] = [
    ['/overview', 'overview', '[data-kpis]'],
    ['/devices', 'devices', '[data-uid]'],
    [`/devices/${lamp.uid}`, 'device', '[data-relay]'],
    ['/users', 'users', '[data-user]'],
    [`/users/${user.id}`, 'user', '[data-session]'],
    ['/invitations', 'invitations', '[data-invitation]'],
    ['/audit', 'audit', '[role=listitem]'],
    ['/plugins', 'plugins', '[data-card]'],
    ['/metrics', 'metrics', '.uplot canvas'],
    ['/preferences', 'preferences', '[data-card]'],
    ['/account', 'account', '[data-card]'],
    ['/home', 'home', '[data-relay]'],
  ]
  for (const [path, shot, there] of pages) {
    await tab.go(path)
    await page.locator(there).first().waitFor()
    await tab.shot(`${shot}-${name}`)
    await tab.accessible(`${shot}, ${name}`)
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
    expect(wide, `${shot} is wider than the screen`).toBeLessThanOrEqual(0)
  }
  tab.clean()
  await tab.close()
})

test('the overview counts what there is', async () => {
  const tab = await Tab.open(browser, server.url)
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  const kpis = await tab.page.locator('[data-kpis]').innerText()
  expect(kpis).toMatch(/Devices\s+5/)
  expect(kpis).toMatch(/Online\s+5\s+100 %/)
  tab.clean()
  await tab.close()
})

test('a user has a home and no console', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(user.email)
  await page.getByRole('heading', { name: 'Home' }).waitFor()
  // Own and shared, and of the shared one the two relays.
  await until('both devices', async () => (await page.locator('section[data-uid]').count()) === 2)
  expect(await page.locator(`section[data-uid="${lamp.uid}"] [data-relay]`).count()).toBe(2)
  for (const name of ['Overview', 'Users', 'Invitations', 'Audit', 'Plugins', 'Metrics']) expect(await page.getByRole('link', { name, exact: true }).count()).toBe(0)
  // Who types the address gets what the server says, in its words.
  tab.expected = [/403/]
  await page.goto(`${server.url}/dashboard/users`)
  await page.getByText('forbidden').waitFor()
  await page.getByText('this needs the role admin').waitFor()
  await tab.shot('forbidden')
  tab.clean()
  await tab.close()
})

test('everything is reached and done by the keyboard', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  // A new page begins at its content; whoever came to the menu gets past it at once.
  await page.keyboard.press('Tab')
  expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe('Collapse Fleet')
  await page.getByRole('link', { name: 'Skip to content' }).focus()
  await page.keyboard.press('Enter')
  await page.keyboard.press('Tab')
  expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe('Collapse Fleet')
  await tab.go(`/devices/${lamp.uid}`)
  const relay = page.locator('[data-relay="3"]')
  await relay.getByRole('switch').focus()
  await page.keyboard.press('Space')
  await page.locator('[data-relay="3"][data-state="on"]').waitFor()
  expect(lamp.state[3]).toBe(true)
  tab.clean()
  await tab.close()
})

test('pages and devices are a few letters away', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  const field = page.getByRole('combobox', { name: 'Page or device' })
  const selected = page.locator('[role=option][aria-selected=true]')
  /** The option that the field names is the selected one, also for screen readers. */
  const isSelected = async (index: number) => {
    const id = await field.getAttribute('aria-activedescendant')
    return (await selected.count()) === 1 && id !== null && (await selected.getAttribute('id')) === id && (await page.getByRole('option').nth(index).getAttribute('id')) === id
  }
  // Escape gives the focus back.
  await page.getByRole('button', { name: 'Go to a page or device' }).focus()
  await page.keyboard.press('Control+k')
  await until('the first option is selected', () => isSelected(0))
  await until('the field has the focus', () => field.evaluate((input) => input === document.activeElement))
  await page.keyboard.press('ArrowDown')
  await until('the next one is selected', () => isSelected(1))
  await page.keyboard.press('ArrowUp')
  await page.keyboard.press('ArrowUp')
  await until('the last one is selected', () => isSelected(-1))
  await field.fill('no such thing')
  await page.getByRole('status').getByText('No results').waitFor()
  await page.keyboard.press('Escape')
  await field.waitFor({ state: 'detached' })
  await until('the focus is back', () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') === 'Go to a page or device'))
  await page.keyboard.press('Control+k')
  await field.fill('greenh')
  await page.getByRole('option', { name: /^Greenhouse/ }).waitFor()
  await page.waitForFunction(() => document.getAnimations().every((one) => one.playState !== 'running'))
  await tab.accessible('go to')
  await tab.shot('palette')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Greenhouse' }).waitFor()
  await page.keyboard.press('Control+k')
  // Where one was last is first.
  await page.getByRole('option', { name: /^Greenhouse.*last device/ }).waitFor()
  await page.keyboard.type('a')
  await page.getByRole('option', { name: /^Audit/ }).waitFor()
  await field.fill('audit')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Audit' }).waitFor()
  tab.clean()
  await tab.close()
})

test('two tabs do not undo each other', async () => {
  const first = await Tab.open(browser, server.url)
  await first.signIn(server.admin.email)
  const second = await Tab.in(first.context, server.url)
  await second.go('/overview')
  await first.go('/overview')
  await first.page.getByRole('button', { name: 'Collapse Fleet' }).click()
  await second.page.getByRole('button', { name: 'Expand Fleet' }).waitFor()
  await second.page.getByRole('button', { name: 'Collapse Latest events' }).click()
  await until('both are kept', async () => {
    const kept = await server.call<{ dashboard_settings: { collapsed?: Record<string, boolean> } | null }>('GET', '/api/v1/preferences', server.admin.token)
    return kept.dashboard_settings?.collapsed?.['overview.fleet'] === true && kept.dashboard_settings.collapsed['overview.audit'] === true
  })
  await server.call('PUT', '/api/v1/preferences', server.admin.token, { dashboard_settings: null })
  first.clean()
  second.clean()
  await first.close()
})

test('a card stays folded and moved, in another browser as well', async () => {
  const tab = await Tab.open(browser, server.url)
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  await tab.page.getByRole('button', { name: 'Collapse Plugins and server' }).click()
  await tab.page.getByRole('button', { name: 'Move Latest events up' }).click()
  await until('it is kept', async () => {
    const kept = await server.call<{ dashboard_settings: { collapsed?: Record<string, boolean> } | null; dashboard_layout: { order?: { overview?: string[] } } | null }>('GET', '/api/v1/preferences', server.admin.token)
    return kept.dashboard_settings?.collapsed?.['overview.plugins'] === true && kept.dashboard_layout?.order?.overview?.indexOf('audit') === 2
  })
  const other = await Tab.open(browser, server.url)
  await other.signIn(server.admin.email)
  await other.go('/overview')
  await other.page.getByRole('button', { name: 'Expand Plugins and server' }).waitFor()
  const order = await other.page.locator('[data-card^="overview."]').evaluateAll((cards) => cards.map((c) => c.getAttribute('data-card')))
  expect(order.indexOf('overview.audit')).toBe(2)
  await server.call('PUT', '/api/v1/preferences', server.admin.token, { dashboard_settings: null, dashboard_layout: null })
  for (const each of [tab, other]) {
    each.clean()
    await each.close()
  }
})
