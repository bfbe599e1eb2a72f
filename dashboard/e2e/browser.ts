/** Debian's Chromium, and what holds for every page: no console errors, CSP violations or accessibility faults. */
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Locator, type Page } from 'playwright-core'
import { expect } from 'vitest'
import { PASSWORD } from './server'

const CHROMIUM_PATHS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
export const SCREENSHOT_DIR = process.env.HEXA_SHOTS ?? resolve(import.meta.dirname, '../shots')

export async function launch(): Promise<Browser> {
  const executablePath = process.env.HEXA_CHROMIUM ?? CHROMIUM_PATHS.find((path) => existsSync(path))
  if (executablePath === undefined) throw new Error('no Chromium: install one, for example `apt-get install chromium`')
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'] })
  // The version is the first question when a test fails elsewhere.
  console.log(`in Chromium ${browser.version()}`)
  return browser
}

/** A page that records its faults. */
export class Tab {
  readonly faults: string[] = []
  /** Faults that the test causes itself. */
  allowedFaults: RegExp[] = []

  private constructor(
    readonly page: Page,
    readonly context: BrowserContext,
    readonly url: string,
  ) {}

  static async open(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Tab> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: 'en-GB', ...options })
    return Tab.in(context, url)
  }

  static async in(context: BrowserContext, url: string): Promise<Tab> {
    const page = await context.newPage()
    page.setDefaultTimeout(10_000)
    const tab = new Tab(page, context, url)
    page.on('console', (message) => {
      if (message.type() === 'error') tab.recordFault(`console: ${message.text()} ${message.location().url}`)
    })
    page.on('pageerror', (error) => tab.recordFault(`exception: ${error.message}`))
    page.on('dialog', (dialog) => {
      tab.recordFault(`dialog: ${dialog.message()}`)
      void dialog.dismiss()
    })
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`)
      })
    })
    return tab
  }

  recordFault(fault: string): void {
    if (!this.allowedFaults.some((pattern) => pattern.test(fault))) this.faults.push(fault)
  }

  /** Fails when there was any fault so far. */
  expectNoFaults(): void {
    expect(this.faults).toEqual([])
  }

  async signIn(email: string): Promise<void> {
    await this.page.goto(`${this.url}/dashboard`)
    await this.page.getByLabel('E-mail').fill(email)
    await this.page.locator('input[type=password]').fill(PASSWORD)
    await this.page.getByRole('button', { name: 'Sign in' }).click()
    await this.page.getByRole('button', { name: 'Your account' }).waitFor()
  }

  /** Clicks a switch on its track, because its input is invisible. */
  async toggle(relay: Locator): Promise<void> {
    await relay.locator('.mantine-Switch-track').click()
  }

  async go(path: string): Promise<void> {
    await this.page.goto(`${this.url}/dashboard${path}`)
    await this.waitUntilLoaded()
  }

  /** Waits until nothing is loading any more. */
  async waitUntilLoaded(): Promise<void> {
    await this.page.locator('h1').first().waitFor()
    await this.page.waitForFunction(() => document.querySelector('[aria-busy="true"]') === null)
  }

  /** Fails on violations of WCAG 2.2 A and AA that axe finds. */
  async expectAccessible(what: string): Promise<void> {
    // Evaluated as a debugger does, because the page's policy forbids other scripts.
    await this.page.evaluate(AXE)
    const found = await this.page.evaluate(async () => {
      const { axe } = window as unknown as { axe: { run(node: Document, options: unknown): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }> } }
      const done = await axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] })
      return done.violations.map((v) => `${v.id}: ${v.nodes.slice(0, 4).map((n) => `${n.html.slice(0, 160)} ${n.failureSummary}`).join('\n')}`)
    })
    expect(found, what).toEqual([])
  }

  async screenshot(name: string): Promise<void> {
    mkdirSync(SCREENSHOT_DIR, { recursive: true })
    await this.page.screenshot({ path: join(SCREENSHOT_DIR, `${name}.png`), animations: 'disabled' })
  }

  async close(): Promise<void> {
    await this.context.close()
  }
}
