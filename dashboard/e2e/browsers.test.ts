/** What must work in every browser: to sign in, to stay so over a reload, to switch, to sign out. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { Plain } from './otherBrowsers'
import { PASSWORD, Server, until } from './server'

let server: Server
let open: Plain | null = null

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

const EMAIL = { css: 'input[type=email]' }
const WORDS = { css: 'input[type=password]' }
const ENTER = { css: 'button[type=submit]', text: 'Sign in' }
const NOT_KEPT = { css: '[aria-label*="stores no cookies"]' }
const ACCOUNT = { css: 'button', text: 'Your account' }

async function signIn(page: Plain, url: string, email: string): Promise<void> {
  await page.driver.go(url)
  await page.type(EMAIL, email)
  await page.type(WORDS, PASSWORD)
  await page.click(ENTER)
  await page.see(ACCOUNT)
}

/** WebKit takes no `Secure` cookie over plain HTTP, not from this machine either: whether the server sets one. */
async function secureCookie(url: string): Promise<boolean> {
  const headers = { 'content-type': 'application/json', 'x-hexa-session': 'cookie', origin: url }
  const body = JSON.stringify({ email: server.admin.email, password: PASSWORD })
  const answer = await fetch(`${url}/api/v1/auth/login`, { method: 'POST', headers, body })
  return /; *Secure/i.test(answer.headers.get('set-cookie') ?? '')
}

const relay = (page: Plain, state: string) =>
  until(`the relay is ${state}`, () => page.value<boolean>(`document.querySelector('[data-relay="0"][data-state="${state}"]') !== null`))

test.each([
  ['firefox', '127.0.0.1'],
  ['firefox', 'localhost'],
  ['webkit', '127.0.0.1'],
  ['webkit', 'localhost'],
] as const)('%s at http://%s: sign in, reload, switch, sign out', async (name, host) => {
  const device = await server.device(server.admin, 1, `Lamp of ${name} at ${host}`)
  const page = await Plain.open(name)
  open = page
  const url = server.url.replace('127.0.0.1', host)
  await signIn(page, `${url}/dashboard`, server.admin.email)
  if (name === 'webkit' && (await secureCookie(url))) {
    await page.see(NOT_KEPT)
    await page.driver.go(`${url}/dashboard`)
    await page.see(ENTER)
    await signIn(page, `${url}/dashboard/devices/${device.uid}`, server.admin.email)
    await page.see(NOT_KEPT)
  } else {
    await page.driver.go(`${url}/dashboard/devices/${device.uid}`)
    await page.see(ACCOUNT)
    expect(await page.value(`document.querySelector(${JSON.stringify(NOT_KEPT.css)}) === null`)).toBe(true)
  }
  await page.click({ css: '[data-relay="0"] .mantine-Switch-track' })
  await relay(page, 'on')
  expect(device.state).toEqual([true])
  // The socket as well.
  device.turn(0, false)
  await relay(page, 'off')
  await page.shot(`${name}-${host}`)
  await page.click(ACCOUNT)
  await page.click({ css: '[role=menuitem]', text: 'Sign out' })
  await page.see(ENTER)
  await page.driver.go(`${url}/dashboard`)
  await page.see(ENTER)
})

test('firefox that keeps neither cookies nor data works until the page is loaded anew, and says so', async () => {
  const device = await server.device(server.admin, 1, 'Lamp of the careful')
  const page = await Plain.open('firefox', ['user_pref("network.cookie.cookieBehavior", 2);'])
  open = page
  await page.driver.go(`${server.url}/dashboard`)
  await page.see({ css: '[role=alert]', text: 'This browser stores no cookies' })
  await page.shot('firefox-no-cookies')
  await signIn(page, `${server.url}/dashboard`, server.admin.email)
  await page.click({ css: 'a', text: 'Home' })
  await page.click({ css: `[data-uid="${device.uid}"] [data-relay="0"] .mantine-Switch-track` })
  await relay(page, 'on')
  await page.see(NOT_KEPT)
  await page.driver.go(`${server.url}/dashboard`)
  await page.see(ENTER)
})
