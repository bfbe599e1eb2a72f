import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, Tab } from './browser'
import { PASSWORD, Server, until } from './server'

let server: Server
let browser: Browser

beforeAll(async () => {
  ;[server, browser] = await Promise.all([Server.start({ env: { REGISTRATION: 'invite' } }), launch()])
})

afterAll(async () => {
  await browser.close()
  await server.stop()
})

/** A link that was made by a click, as the page shows it. */
async function invite(tab: Tab, note: string, email = ''): Promise<string> {
  const { page } = tab
  await tab.go('/invitations')
  await page.getByRole('button', { name: 'Create invitation' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Note').fill(note)
  if (email !== '') await dialog.getByLabel('E-mail').fill(email)
  await dialog.getByRole('button', { name: 'Create link' }).click()
  const link = (await page.locator('[data-secret]').innerText()).trim()
  expect(link).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/dashboard#invitation=hxi_[\w-]{43}$/)
  // A dialog that is still fading in has paler colours.
  await page.waitForFunction(() => document.getAnimations().every((one) => one.playState !== 'running'))
  await tab.accessible('a new invitation')
  await page.getByRole('dialog').getByRole('button', { name: 'Close' }).click()
  await page.locator('[data-invitation]').getByText(note).waitFor()
  return link
}

async function fill(tab: Tab, email: string): Promise<void> {
  await tab.page.getByLabel('E-mail').fill(email)
  await tab.page.locator('input[type=password]').fill(PASSWORD)
}

test('an admin makes a link, a stranger gets in with it, and nobody after', async () => {
  const admin = await Tab.open(browser, server.url)
  await admin.signIn(server.admin.email)
  await admin.page.getByRole('link', { name: 'Invitations' }).click()
  await admin.page.getByText('No invitations yet').waitFor()
  const link = await invite(admin, 'The neighbour')

  const stranger = await Tab.open(browser, server.url)
  const asked: string[] = []
  stranger.page.on('request', (request) => asked.push(request.url(), request.headers().referer ?? ''))
  await stranger.page.goto(link)
  // The form is there, with the invitation, and the address is rid of it.
  await stranger.page.getByRole('button', { name: 'Create account' }).waitFor()
  expect(await stranger.page.getByRole('textbox', { name: 'Invitation' }).inputValue()).toMatch(/^hxi_/)
  expect(stranger.page.url()).not.toContain('hxi_')
  await stranger.accessible('an invitation')
  await stranger.shot('invited')
  await fill(stranger, 'nora@hexa.local')
  await stranger.page.getByRole('button', { name: 'Create account' }).click()
  await stranger.page.getByRole('heading', { name: 'Home' }).waitFor()
  expect(asked.some((what) => what.includes('hxi_'))).toBe(false)
  stranger.clean()
  await stranger.close()

  // Once more: by whoever found the link.
  const finder = await Tab.open(browser, server.url)
  finder.expected = [/403/]
  await finder.page.goto(link)
  await fill(finder, 'finder@hexa.local')
  await finder.page.getByRole('button', { name: 'Create account' }).click()
  await finder.page.getByText('Ask an admin of this server for a new link').waitFor()
  await finder.page.getByText('invalid_invitation').waitFor()
  await finder.shot('invitation-refused')
  finder.clean()
  await finder.close()

  await admin.go('/invitations')
  await admin.page.locator('[data-invitation][data-state=used]').getByText('by nora@hexa.local').waitFor()
  admin.clean()
  await admin.close()
})

test('a link that was taken back lets nobody in, and another one in the same tab does', async () => {
  const admin = await Tab.open(browser, server.url)
  await admin.signIn(server.admin.email)
  const [first, second] = [await invite(admin, 'Taken back'), await invite(admin, 'For Otto', 'Otto@hexa.local')]
  await admin.page.getByRole('button', { name: 'Revoke the invitation for Taken back' }).click()
  await admin.page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click()
  const state = async () => admin.page.locator('[data-invitation]').filter({ hasText: 'Taken back' }).getAttribute('data-state')
  await until('it is taken back', async () => (await state()) === 'revoked')
  await admin.page.getByRole('combobox', { name: 'State' }).click()
  await admin.page.getByRole('option', { name: 'Open' }).click()
  await until('one is open', async () => (await admin.page.locator('[data-invitation]').count()) === 1)
  admin.clean()
  await admin.close()

  const guest = await Tab.open(browser, server.url)
  guest.expected = [/403/]
  const { page } = guest
  await page.goto(first)
  await fill(guest, 'otto@hexa.local')
  await page.getByRole('button', { name: 'Create account' }).click()
  await page.getByText('invalid_invitation').waitFor()
  // Pasted into the address of the open page, or into the field.
  await page.evaluate((hash) => (window.location.hash = hash), new URL(second).hash)
  await until('the new one is there', async () => second.endsWith(await page.getByRole('textbox', { name: 'Invitation' }).inputValue()))
  await page.getByRole('textbox', { name: 'Invitation' }).fill(second)
  await page.getByRole('button', { name: 'Create account' }).click()
  await page.getByRole('heading', { name: 'Home' }).waitFor()
  guest.clean()
  await guest.close()
})

test('without a link the form says how one comes in, and where nobody does there is no form', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await page.goto(`${server.url}/dashboard`)
  await page.getByRole('tab', { name: 'New account' }).click()
  await page.getByText('Ask an admin of this server for a link').waitFor()
  // The first admin is there already.
  expect(await page.getByLabel('Bootstrap secret').count()).toBe(0)
  await tab.accessible('by invitation')
  await tab.shot('by-invitation')
  await fill(tab, 'alone@hexa.local')
  await page.getByRole('button', { name: 'Create account' }).click()
  // The browser itself asks for what is missing.
  expect(await page.getByRole('textbox', { name: 'Invitation' }).evaluate((field) => (field as HTMLInputElement).validity.valueMissing)).toBe(true)
  server.environment({ REGISTRATION: 'closed' })
  await server.kill()
  await server.restart()
  await page.reload()
  await page.getByLabel('E-mail').waitFor()
  await until('there is no way in', async () => (await page.getByRole('tab', { name: 'New account' }).count()) === 0)
  await page.getByRole('button', { name: 'Sign in' }).waitFor()
  await page.goto(`${server.url}/dashboard#invitation=hxi_late`)
  await page.getByText('This server accepts no new accounts').waitFor()
  await tab.shot('registration-closed')
  tab.clean()
  await tab.close()
})
