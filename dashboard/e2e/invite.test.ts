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

/** Creates an invitation, and gives the link that the page shows. */
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
  // Colours of a dialog that is still fading in have less contrast.
  await page.waitForFunction(() => document.getAnimations().every((one) => one.playState !== 'running'))
  await tab.expectAccessible('a new invitation')
  await page.getByRole('dialog').getByRole('button', { name: 'Close' }).click()
  await page.locator('[data-invitation]').getByText(note).waitFor()
  return link
}

async function fill(tab: Tab, email: string): Promise<void> {
  await tab.page.getByLabel('E-mail').fill(email)
  await tab.page.locator('input[type=password]').fill(PASSWORD)
}

test('a link of an admin creates one account, and no second one', async () => {
  const admin = await Tab.open(browser, server.url)
  await admin.signIn(server.admin.email)
  await admin.page.getByRole('link', { name: 'Invitations' }).click()
  await admin.page.getByText('No invitations yet').waitFor()
  const link = await invite(admin, 'The neighbour')

  const stranger = await Tab.open(browser, server.url)
  const requested: string[] = []
  stranger.page.on('request', (request) => requested.push(request.url(), request.headers().referer ?? ''))
  await stranger.page.goto(link)
  // The form has the invitation, and the address no longer has it.
  await stranger.page.getByRole('button', { name: 'Create account' }).waitFor()
  expect(await stranger.page.getByRole('textbox', { name: 'Invitation' }).inputValue()).toMatch(/^hxi_/)
  expect(stranger.page.url()).not.toContain('hxi_')
  await stranger.expectAccessible('an invitation')
  await stranger.screenshot('invited')
  await fill(stranger, 'nora@hexa.local')
  await stranger.page.getByRole('button', { name: 'Create account' }).click()
  await stranger.page.getByRole('heading', { name: 'Home' }).waitFor()
  expect(requested.some((text) => text.includes('hxi_'))).toBe(false)
  stranger.expectNoFaults()
  await stranger.close()

  // A second use of the same link.
  const finder = await Tab.open(browser, server.url)
  finder.allowedFaults = [/403/]
  await finder.page.goto(link)
  await fill(finder, 'finder@hexa.local')
  await finder.page.getByRole('button', { name: 'Create account' }).click()
  await finder.page.getByText('Ask an admin of this server for a new link').waitFor()
  await finder.page.getByText('invalid_invitation').waitFor()
  await finder.screenshot('invitation-refused')
  finder.expectNoFaults()
  await finder.close()

  await admin.go('/invitations')
  await admin.page.locator('[data-invitation][data-state=used]').getByText('by nora@hexa.local').waitFor()
  admin.expectNoFaults()
  await admin.close()
})

test('a revoked link is refused, and another one in the same tab works', async () => {
  const admin = await Tab.open(browser, server.url)
  await admin.signIn(server.admin.email)
  const [first, second] = [await invite(admin, 'Withdrawn'), await invite(admin, 'For Otto', 'Otto@hexa.local')]
  await admin.page.getByRole('button', { name: 'Revoke the invitation for Withdrawn' }).click()
  await admin.page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click()
  const state = async () => admin.page.locator('[data-invitation]').filter({ hasText: 'Withdrawn' }).getAttribute('data-state')
  await until('it is revoked', async () => (await state()) === 'revoked')
  await admin.page.getByRole('combobox', { name: 'State' }).click()
  await admin.page.getByRole('option', { name: 'Open' }).click()
  await until('one is open', async () => (await admin.page.locator('[data-invitation]').count()) === 1)
  admin.expectNoFaults()
  await admin.close()

  const visitor = await Tab.open(browser, server.url)
  visitor.allowedFaults = [/403/]
  const { page } = visitor
  await page.goto(first)
  await fill(visitor, 'otto@hexa.local')
  await page.getByRole('button', { name: 'Create account' }).click()
  await page.getByText('invalid_invitation').waitFor()
  // Pasted into the address bar of the open page, or into the field.
  await page.evaluate((hash) => (window.location.hash = hash), new URL(second).hash)
  await until('the new one is there', async () => second.endsWith(await page.getByRole('textbox', { name: 'Invitation' }).inputValue()))
  await page.getByRole('textbox', { name: 'Invitation' }).fill(second)
  await page.getByRole('button', { name: 'Create account' }).click()
  await page.getByRole('heading', { name: 'Home' }).waitFor()
  visitor.expectNoFaults()
  await visitor.close()
})

test('without a link the form says that one is needed, and where registration is closed there is no form', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await page.goto(`${server.url}/dashboard`)
  await page.getByRole('tab', { name: 'New account' }).click()
  await page.getByText('Ask an admin of this server for a link').waitFor()
  // The first admin exists already.
  expect(await page.getByLabel('Bootstrap secret').count()).toBe(0)
  await tab.expectAccessible('by invitation')
  await tab.screenshot('by-invitation')
  await fill(tab, 'alone@hexa.local')
  await page.getByRole('button', { name: 'Create account' }).click()
  // The browser itself asks for what is missing.
  expect(await page.getByRole('textbox', { name: 'Invitation' }).evaluate((field) => (field as HTMLInputElement).validity.valueMissing)).toBe(true)
  server.setEnvironment({ REGISTRATION: 'closed' })
  await server.kill()
  await server.restart()
  await page.reload()
  await page.getByLabel('E-mail').waitFor()
  await until('there is no form for new accounts', async () => (await page.getByRole('tab', { name: 'New account' }).count()) === 0)
  await page.getByRole('button', { name: 'Sign in' }).waitFor()
  await page.goto(`${server.url}/dashboard#invitation=hxi_late`)
  await page.getByText('This server accepts no new accounts').waitFor()
  await tab.screenshot('registration-closed')
  tab.expectNoFaults()
  await tab.close()
})
