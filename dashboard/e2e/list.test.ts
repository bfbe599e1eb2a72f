import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, Tab } from './browser'
import { Server, until } from './server'

/** More than six pages. */
const COUNT = 330

let server: Server
let browser: Browser

beforeAll(async () => {
  ;[server, browser] = await Promise.all([Server.start(), launch()])
  for (let n = 0; n < COUNT; n += 1) {
    const made = await server.provision(2)
    await server.call('POST', '/api/v1/devices/claim', server.admin.token, { code: made.claim_code })
    // The last one to register is the first by name.
    await server.call('PATCH', `/api/v1/devices/${made.device_uid}`, server.admin.token, { name: `Lamp ${String(COUNT - n).padStart(4, '0')}` })
  }
})

afterAll(async () => {
  await browser.close()
  await server.stop()
})

const ROWS = '[aria-label="Rows"]'

async function openList(path: string) {
  const tab = await Tab.open(browser, server.url)
  await tab.signIn(server.admin.email)
  await tab.go(path)
  await tab.page.locator('[data-uid]').first().waitFor()
  await tab.page.getByText('Live', { exact: true }).waitFor()
  const requested: string[] = []
  tab.page.on('request', (request) => {
    if (/\/api\/v1\/devices(\?|$)/.test(request.url())) requested.push(request.url())
  })
  const toTheEnd = () =>
    until('the end of the list', async () => {
      const below = await tab.page.locator(ROWS).evaluate((rows) => {
        rows.scrollTo(0, rows.scrollHeight)
        return rows.scrollHeight - rows.clientHeight - rows.scrollTop
      })
      const all = await tab.page.getByRole('status').getByText(`${COUNT} devices`, { exact: true }).isVisible()
      return all && below < 1 && (await tab.page.locator(`[aria-rowindex="${COUNT + 1}"]`).count()) === 1
    })
  return { tab, page: tab.page, requested, toTheEnd }
}

test('a long list is loaded page by page, and only visible pages are refreshed', async () => {
  const { tab, page, requested, toTheEnd } = await openList('/devices')
  await toTheEnd()
  expect(requested.length).toBe(6)
  expect(await page.locator('[data-uid]').count()).toBeLessThan(80)
  // A new device: only the visible pages are requested again, not all seven.
  requested.length = 0
  const made = await server.provision(2)
  await server.call('POST', '/api/v1/devices/claim', server.admin.token, { code: made.claim_code })
  await until('a page was requested', () => requested.length > 0)
  await page.getByRole('status').getByText(`${COUNT + 1} devices`, { exact: true }).waitFor()
  expect(requested.length).toBeLessThanOrEqual(2)
  await server.call('DELETE', `/api/v1/devices/${made.device_uid}`, server.admin.token)
  await page.getByRole('status').getByText(`${COUNT} devices`, { exact: true }).waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('going back restores the scroll position of the list', async () => {
  const { tab, page, toTheEnd } = await openList('/devices')
  await toTheEnd()
  const last = page.getByRole('link', { name: 'Lamp 0001', exact: true })
  await last.click()
  await page.getByRole('heading', { name: 'Lamp 0001' }).waitFor()
  await page.goBack()
  await last.waitFor()
  expect(await page.locator(ROWS).evaluate((rows) => rows.scrollTop)).toBeGreaterThan(10_000)
  tab.expectNoFaults()
  await tab.close()
})

test('the list is sorted by name, and the address says so', async () => {
  const { tab, page, toTheEnd } = await openList('/devices')
  const names = () => page.locator('[data-uid] a').allInnerTexts()
  expect((await names())[0]).toBe(`Lamp ${String(COUNT).padStart(4, '0')}`)
  await page.getByRole('button', { name: /sort by name/ }).click()
  await until('the first by name', async () => (await names())[0] === 'Lamp 0001')
  expect(page.url()).toContain('sort=name')
  await toTheEnd()
  await until('the last by name', async () => (await names()).at(-1) === `Lamp ${String(COUNT).padStart(4, '0')}`)
  await page.reload()
  await until('the first by name again', async () => (await names())[0] === 'Lamp 0001')
  // The order is saved with the account, and used for an address without one.
  await tab.go('/devices')
  await until('as last time', async () => (await names())[0] === 'Lamp 0001')
  await server.call('PUT', '/api/v1/preferences', server.admin.token, { device_view_state: null })
  tab.expectNoFaults()
  await tab.close()
})

test('the figures of the overview link to the devices that they count', async () => {
  const { tab, page } = await openList('/devices')
  const there = await server.createDevice(server.admin, 1, 'Here I am')
  await tab.go('/overview')
  await until('one is online', async () => /Online\s+1/.test(await page.locator('[data-kpis]').innerText()))
  await page.locator('[data-kpis]').getByRole('link', { name: /^Online/ }).click()
  await until('it alone', async () => (await page.locator('[data-uid]').count()) === 1)
  expect(await page.locator('[data-uid]').getAttribute('data-uid')).toBe(there.uid)
  await page.getByRole('combobox', { name: 'Connection' }).click()
  await page.getByRole('option', { name: 'Stale' }).click()
  await page.getByText('No matching devices').waitFor()
  await tab.go(`/devices?owner=${server.admin.id}&presence=online`)
  await page.getByText('Ada Admin').nth(1).waitFor()
  await page.getByRole('button', { name: 'One account only: show all' }).click()
  await until('the address has none', () => !page.url().includes('owner'))
  await server.call('PUT', '/api/v1/preferences', server.admin.token, { device_view_state: null })
  tab.expectNoFaults()
  await tab.close()
})
