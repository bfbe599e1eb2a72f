/** What must work in every browser: sign in, reload, switch a relay, sign out. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { OtherBrowser } from './otherBrowsers'
import { PASSWORD, Server, until } from './server'

let server: Server
let open: OtherBrowser | null = null

beforeAll(async () => {
  server = await Server.start()
})

afterEach(async () => {
  await open?.close()
  open = null
})

afterAll(async () => {
  await server.stop()
})

const EMAIL_FIELD = { css: 'input[type=email]' }
const PASSWORD_FIELD = { css: 'input[type=password]' }
const SIGN_IN_BUTTON = { css: 'button[type=submit]', text: 'Sign in' }
const NOT_SAVED_BADGE = { css: '[aria-label*="stores no cookies"]' }
const ACCOUNT_BUTTON = { css: 'button', text: 'Your account' }

async function signIn(page: OtherBrowser, url: string, email: string): Promise<void> {
  await page.driver.go(url)
  await page.type(EMAIL_FIELD, email)
  await page.type(PASSWORD_FIELD, PASSWORD)
  await page.click(SIGN_IN_BUTTON)
  await page.waitFor(ACCOUNT_BUTTON)
}

/** Whether the server sets a `Secure` cookie, which WebKit does not store over plain HTTP, not even from localhost. */
async function secureCookie(url: string): Promise<boolean> {
  const headers = { 'content-type': 'application/json', 'x-hexa-session': 'cookie', origin: url }
  const body = JSON.stringify({ email: server.admin.email, password: PASSWORD })
  const answer = await fetch(`${url}/api/v1/auth/login`, { method: 'POST', headers, body })
  return /; *Secure/i.test(answer.headers.get('set-cookie') ?? '')
}

const relay = (page: OtherBrowser, state: string) =>
  until(`the relay is ${state}`, () => page.value<boolean>(`document.querySelector('[data-relay="0"][data-state="${state}"]') !== null`))

test.each([
  ['firefox', '127.0.0.1'],
  ['firefox', 'localhost'],
  ['webkit', '127.0.0.1'],
  ['webkit', 'localhost'],
] as const)('%s at http://%s: sign in, reload, switch, sign out', async (name, host) => {
  const device = await server.createDevice(server.admin, 1, `Lamp of ${name} at ${host}`)
  const page = await OtherBrowser.open(name)
  open = page
  const url = server.url.replace('127.0.0.1', host)
  await signIn(page, `${url}/dashboard`, server.admin.email)
  if (name === 'webkit' && (await secureCookie(url))) {
    await page.waitFor(NOT_SAVED_BADGE)
    await page.driver.go(`${url}/dashboard`)
    await page.waitFor(SIGN_IN_BUTTON)
    await signIn(page, `${url}/dashboard/devices/${device.uid}`, server.admin.email)
    await page.waitFor(NOT_SAVED_BADGE)
  } else {
    await page.driver.go(`${url}/dashboard/devices/${device.uid}`)
    await page.waitFor(ACCOUNT_BUTTON)
    expect(await page.value(`document.querySelector(${JSON.stringify(NOT_SAVED_BADGE.css)}) === null`)).toBe(true)
  }
  await page.click({ css: '[data-relay="0"] .mantine-Switch-track' })
  await relay(page, 'on')
  expect(device.state).toEqual([true])
  // The socket works as well.
  device.setByHand(0, false)
  await relay(page, 'off')
  await page.saveScreenshot(`${name}-${host}`)
  await page.click(ACCOUNT_BUTTON)
  await page.click({ css: '[role=menuitem]', text: 'Sign out' })
  await page.waitFor(SIGN_IN_BUTTON)
  await page.driver.go(`${url}/dashboard`)
  await page.waitFor(SIGN_IN_BUTTON)
})

test('a Firefox that stores neither cookies nor data works until the page is reloaded, and says so', async () => {
  const device = await server.createDevice(server.admin, 1, 'Without cookies')
  const page = await OtherBrowser.open('firefox', ['user_pref("network.cookie.cookieBehavior", 2);'])
  open = page
  await page.driver.go(`${server.url}/dashboard`)
  await page.waitFor({ css: '[role=alert]', text: 'This browser stores no cookies' })
  await page.saveScreenshot('firefox-no-cookies')
  await signIn(page, `${server.url}/dashboard`, server.admin.email)
  await page.click({ css: 'a', text: 'Home' })
  await page.click({ css: `[data-uid="${device.uid}"] [data-relay="0"] .mantine-Switch-track` })
  await relay(page, 'on')
  await page.waitFor(NOT_SAVED_BADGE)
  await page.driver.go(`${server.url}/dashboard`)
  await page.waitFor(SIGN_IN_BUTTON)
})
