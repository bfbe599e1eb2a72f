import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, Tab } from './browser'
import { PASSWORD, Server, until } from './server'

let server: Server
let browser: Browser

beforeAll(async () => {
  ;[server, browser] = await Promise.all([Server.start(), launch()])
})

afterAll(async () => {
  await browser.close()
  await server.stop()
})

/** Console messages of requests and sockets whose access has ended. */
const UNAUTHORIZED = [/401/, /HTTP Authentication failed/]

/** Ends every access token, but no session. */
const expireTokens = async () => {
  await server.call('POST', '/api/v1/admin/keys/rotate', server.admin.token, { at_once: true })
  const signedIn = await server.call<{ access_token: string }>('POST', '/api/v1/auth/login', undefined, { email: server.admin.email, password: PASSWORD })
  server.admin.token = signedIn.access_token
}

const recordStatuses = (tab: Tab, part: string) => {
  const seen: number[] = []
  tab.page.on('response', (response) => {
    if (response.url().includes(part)) seen.push(response.status())
  })
  return seen
}

test('a reload keeps the session, and no token is where a script could read it', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  const storage = await page.evaluate(() => JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage)]) + document.cookie)
  expect(storage).not.toMatch(/hxr_|eyJ/)
  const cookies = await tab.context.cookies()
  expect(cookies.map((c) => [c.name, c.httpOnly, c.secure, c.sameSite, c.path])).toEqual([[expect.stringMatching(/hexa_rt/), true, expect.any(Boolean), 'Strict', '/']])
  await page.reload()
  await page.getByRole('button', { name: 'Your account: Ada Admin' }).waitFor()
  await page.goto(`${server.url}/dashboard/audit?outcome=done`)
  await page.getByText('created an account').first().waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('simultaneous 401 answers cause one refresh', async () => {
  const tab = await Tab.open(browser, server.url)
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  tab.allowedFaults = UNAUTHORIZED
  const refreshes = recordStatuses(tab, '/auth/refresh')
  const all = recordStatuses(tab, '/api/v1/')
  await expireTokens()
  await tab.page.evaluate(() => window.dispatchEvent(new Event('visibilitychange')))
  for (const page of ['Devices', 'Users', 'Audit', 'Metrics', 'Overview']) await tab.page.getByRole('link', { name: page, exact: true }).click()
  await until('the page is served again', () => all.includes(401) && all.at(-1) === 200)
  await tab.waitUntilLoaded()
  expect(refreshes).toEqual([200])
  tab.expectNoFaults()
  await tab.close()
})

test('two tabs share one refresh, and neither is taken for a token thief', async () => {
  const first = await Tab.open(browser, server.url)
  await first.signIn(server.admin.email)
  await first.go('/overview')
  const second = await Tab.in(first.context, server.url)
  await second.go('/overview')
  const tabs = [first, second]
  for (const tab of tabs) tab.allowedFaults = UNAUTHORIZED
  const refreshes = tabs.map((tab) => recordStatuses(tab, '/auth/refresh'))
  const all = tabs.map((tab) => recordStatuses(tab, '/api/v1/'))
  await expireTokens()
  const fleets = tabs.map((tab) => recordStatuses(tab, '/admin/fleet'))
  // Both send requests every few seconds; the second one may have the new token before its next request.
  const refused = () => all.flat().includes(401)
  await until('both are served again', () => refused() && fleets.every((seen) => seen.length > 1 && seen.at(-1) === 200))
  expect(refreshes.flat()).toEqual([200])
  const audit = await server.call<{ items: unknown[] }>('GET', '/api/v1/admin/audit?action=security.refresh_reuse', server.admin.token)
  expect(audit.items).toEqual([])
  for (const tab of tabs) tab.expectNoFaults()
  await first.close()
})

test('signing out ends the session in every tab, clears storage, and survives a reload', async () => {
  const first = await Tab.open(browser, server.url)
  await first.signIn(server.admin.email)
  const second = await Tab.in(first.context, server.url)
  await second.go('/devices')
  await first.page.getByRole('button', { name: 'Your account' }).click()
  await first.page.getByRole('menuitem', { name: 'Sign out' }).click()
  for (const tab of [first, second]) await tab.page.getByRole('button', { name: 'Sign in' }).waitFor()
  await until('the cookie is gone', async () => (await first.context.cookies()).length === 0)
  // The flag of the pending sign-out is removed once no answer can bring a cookie any more.
  await until('nothing is stored', async () => (await first.page.evaluate(() => Object.keys(localStorage))).length === 0)
  await first.page.reload()
  await first.page.getByRole('button', { name: 'Sign in' }).waitFor()
  first.expectNoFaults()
  second.expectNoFaults()
  await first.close()
})

test('signing out works while the server is away, also for the next start', async () => {
  const tab = await Tab.open(browser, server.url)
  await tab.signIn(server.admin.email)
  tab.allowedFaults = [/ERR_|Failed to load|WebSocket|could not be loaded/]
  await tab.context.setOffline(true)
  await tab.page.getByRole('button', { name: 'Your account' }).click()
  await tab.page.getByRole('menuitem', { name: 'Sign out' }).click()
  await tab.page.getByRole('button', { name: 'Sign in' }).waitFor()
  await tab.context.setOffline(false)
  await tab.page.reload()
  await tab.page.getByRole('button', { name: 'Sign in' }).waitFor()
  await until('the cookie is gone', async () => (await tab.context.cookies()).length === 0)
  tab.expectNoFaults()
  await tab.close()
})

test('a wrong password is reported, and so is an ended session', async () => {
  const user = await server.register('eva@hexa.local', 'Eva')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  tab.allowedFaults = UNAUTHORIZED
  await page.goto(`${server.url}/dashboard`)
  await page.getByLabel('E-mail').fill(user.email)
  await page.locator('input[type=password]').fill('not my password at all')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByText('invalid_credentials').waitFor()
  await tab.signIn(user.email)
  await server.call('DELETE', `/api/v1/admin/users/${user.id}/sessions`, server.admin.token)
  await page.getByText('Your session has ended. Sign in again.').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('an account is created, its password changed, a token created and revoked', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await page.goto(`${server.url}/dashboard`)
  await page.getByRole('tab', { name: 'New account' }).click()
  await page.getByLabel('E-mail').fill('neo@hexa.local')
  await page.locator('input[type=password]').fill(PASSWORD)
  await page.getByLabel('Name', { exact: true }).fill('Neo')
  await page.getByRole('button', { name: 'Create account' }).click()
  await page.getByRole('heading', { name: 'Home' }).waitFor()
  await page.getByRole('link', { name: 'Account', exact: true }).click()
  await page.getByRole('textbox', { name: 'Current password' }).fill(PASSWORD)
  await page.getByRole('textbox', { name: 'New password' }).fill('another horse with a battery')
  await page.getByRole('button', { name: 'Change password' }).click()
  await page.getByText('Password changed').waitFor()
  await page.getByLabel('New token').fill('for a script')
  await page.getByRole('button', { name: 'Create token' }).click()
  const token = await page.locator('[data-secret]').innerText()
  const list = await server.call<{ items: unknown[] }>('GET', '/api/v1/devices', token)
  expect(list.items).toEqual([])
  await page.getByRole('button', { name: 'Close', exact: true }).click()
  await page.getByRole('button', { name: 'Revoke' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click()
  await page.getByText('No tokens').waitFor()
  await expect(server.call('GET', '/api/v1/devices', token)).rejects.toThrow('401')
  // The cookie is that of the new session.
  await page.reload()
  await page.getByRole('heading', { name: 'Account' }).waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('without cookies, storage, locks and channels the console works until a reload, and says so', async () => {
  const tab = await Tab.open(browser, server.url)
  await tab.page.addInitScript(() => {
    const refuse = () => {
      throw new DOMException('storage is disabled', 'SecurityError')
    }
    for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, { get: refuse })
    Object.defineProperty(document, 'cookie', { get: () => '', set: () => undefined })
    Object.defineProperty(navigator, 'locks', { get: () => undefined })
    Object.assign(window, { BroadcastChannel: refuse })
  })
  await tab.page.goto(`${server.url}/dashboard`)
  await tab.page.getByText('This browser stores no cookies for this page').waitFor()
  await tab.expectAccessible('the sign-in page that warns')
  await tab.signIn(server.admin.email)
  await tab.page.getByRole('link', { name: 'Devices', exact: true }).click()
  await tab.page.getByRole('heading', { name: 'Devices' }).waitFor()
  await tab.page.getByRole('link', { name: 'Preferences', exact: true }).click()
  await tab.page.getByText('Dark', { exact: true }).click()
  await tab.page.locator('[data-mantine-color-scheme="dark"]').first().waitFor({ state: 'attached' })
  await server.call('PUT', '/api/v1/preferences', server.admin.token, { dashboard_settings: null })
  // The session goes on beyond its first access token, in the page's memory.
  tab.allowedFaults = UNAUTHORIZED
  await expireTokens()
  await tab.page.getByRole('link', { name: 'Users', exact: true }).click()
  await tab.page.locator(`[data-user="${server.admin.email}"]`).waitFor()
  await tab.expectAccessible('a page whose session is not saved')
  await tab.screenshot('not-saved')
  // Signing out ends the session, although there is no cookie.
  const sessions = async () => (await server.call<{ items: unknown[] }>('GET', '/api/v1/auth/sessions', server.admin.token)).items.length
  const before = await sessions()
  await tab.page.getByRole('button', { name: 'Your account' }).click()
  await tab.page.getByRole('menuitem', { name: 'Sign out' }).click()
  await until('the session has ended', async () => (await sessions()) === before - 1)
  tab.expectNoFaults()
  await tab.close()
})

test('without locks, tabs that are restored together share one refresh', async () => {
  const first = await Tab.open(browser, server.url)
  // As on plain HTTP from another machine.
  await first.context.addInitScript(() => Object.defineProperty(navigator, 'locks', { get: () => undefined }))
  await first.signIn(server.admin.email)
  const tabs = [first]
  for (let n = 0; n < 4; n += 1) tabs.push(await Tab.in(first.context, server.url))
  await first.page.goto('about:blank')
  const refreshes = tabs.map((tab) => recordStatuses(tab, '/auth/refresh'))
  await Promise.all(tabs.map((tab) => tab.page.goto(`${server.url}/dashboard/account`)))
  await Promise.all(tabs.map((tab) => tab.page.getByRole('heading', { name: 'Account' }).waitFor()))
  for (const tab of tabs) tab.allowedFaults = UNAUTHORIZED
  await expireTokens()
  await Promise.all(tabs.map((tab) => tab.page.getByRole('link', { name: 'Users', exact: true }).click()))
  await Promise.all(tabs.map((tab) => tab.page.locator(`[data-user="${server.admin.email}"]`).waitFor()))
  // One at the start, one after the tokens expired. On a busy machine a tab may get its answer too late and refresh by
  // itself, which must not be taken for a theft. Without sharing there would be ten.
  expect(refreshes.flat().every((status) => status === 200)).toBe(true)
  expect(refreshes.flat().length).toBeLessThanOrEqual(5)
  const audit = await server.call<{ items: unknown[] }>('GET', '/api/v1/admin/audit?action=security.refresh_reuse', server.admin.token)
  expect(audit.items).toEqual([])
  for (const tab of tabs) tab.expectNoFaults()
  await first.close()
})

test('after a change of account in another tab, nothing of the former account is shown', async () => {
  const user = await server.register('mo@hexa.local', 'Mo')
  const first = await Tab.open(browser, server.url)
  await first.signIn(server.admin.email)
  await first.go('/users')
  await first.page.locator(`[data-user="${user.email}"]`).waitFor()
  // Records everything that is rendered of the list from now on.
  await first.page.evaluate(() => {
    const seen: string[] = []
    Object.assign(window, { seen })
    new MutationObserver(() => {
      const shown = document.querySelector('[data-user]') !== null
      const who = document.querySelector('[aria-label^="Your account"]')?.getAttribute('aria-label') ?? ''
      if (shown) seen.push(who)
    }).observe(document.body, { subtree: true, childList: true, attributes: true })
  })
  // Another account signs in without a sign-out here, as a tab that used another server does.
  const signedIn = await server.call<{ access_token: string; user: unknown }>('POST', '/api/v1/auth/login', undefined, { email: user.email, password: PASSWORD })
  await first.page.evaluate(({ access_token, user }) => {
    const message = { kind: 'token', base: '', id: 'of another tab', since: Date.now() + 60_000, value: access_token, left_ms: 900_000, user }
    new BroadcastChannel('hexa.session').postMessage(message)
  }, signedIn)
  await first.page.getByRole('button', { name: 'Your account: Mo' }).waitFor()
  await first.page.getByRole('heading', { name: 'Home' }).waitFor()
  expect((await first.page.evaluate(() => (window as unknown as { seen: string[] }).seen)).filter((who) => who.includes('Mo'))).toEqual([])
  first.expectNoFaults()
  await first.close()
})

test('another server can be used when both allow it, with a warning', async () => {
  // Each lists the other: both addresses are known only after a start.
  const other = await Server.start()
  const front = await Server.start({ env: { DASHBOARD_CONNECT_SRC: other.url } })
  await other.kill()
  other.setEnvironment({ CORS_ALLOWED_ORIGINS: front.url })
  await other.restart()
  const device = await other.createDevice(other.admin, 2, 'Far away')
  const tab = await Tab.open(browser, front.url)
  const { page } = tab
  await page.goto(`${front.url}/dashboard`)
  await page.getByRole('button', { name: 'Use another server' }).click()
  await page.getByLabel('Server').fill(other.url)
  await page.getByText('Less secure').waitFor()
  await page.getByLabel('E-mail').fill(other.admin.email)
  await page.locator('input[type=password]').fill(PASSWORD)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('button', { name: 'Your account' }).waitFor()
  await page.reload()
  await page.getByRole('link', { name: 'Home', exact: true }).click()
  await tab.toggle(page.locator(`[data-uid="${device.uid}"] [data-relay="1"]`))
  await page.locator('[data-relay="1"][data-state="on"]').waitFor()
  expect(device.state).toEqual([false, true])
  expect(await tab.context.cookies()).toEqual([])
  // Another tab uses the page's own server, and its sign-out keeps this session.
  const own = await Tab.in(tab.context, front.url)
  await own.page.addInitScript(() => {
    sessionStorage.setItem('hexa.base', '')
    localStorage.removeItem('hexa.base')
  })
  await own.signIn(front.admin.email)
  await own.page.getByRole('button', { name: 'Your account' }).click()
  await own.page.getByRole('menuitem', { name: 'Sign out' }).click()
  await own.page.getByRole('button', { name: 'Sign in' }).waitFor()
  await until('its cookie is gone', async () => (await tab.context.cookies()).length === 0)
  await page.reload()
  await page.getByRole('button', { name: 'Your account' }).waitFor()
  await page.locator(`[data-uid="${device.uid}"]`).waitFor()
  own.expectNoFaults()
  tab.expectNoFaults()
  await tab.close()
  await Promise.all([front.stop(), other.stop()])
})
