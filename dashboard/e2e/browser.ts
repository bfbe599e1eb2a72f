/** Debian's Chromium, and what every page must keep: no console errors, no CSP violations, no accessibility faults. */
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Locator, type Page } from 'playwright-core'
import { expect } from 'vitest'
import { PASSWORD } from './server'

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
export const SHOTS = process.env.HEXA_SHOTS ?? resolve(import.meta.dirname, '../shots')

export async function launch(): Promise<Browser> {
  const executablePath = process.env.HEXA_CHROMIUM ?? PLACES.find((path) => existsSync(path))
  if (executablePath === undefined) throw new Error('no Chromium: install one, for example `apt-get install chromium`')
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'] })
  // Which one it was is the first question where a test fails for somebody else.
  console.log(`in Chromium ${browser.version()}`)
  return browser
}

/** A page that notes everything that went wrong on it. */
export class Tab {
  readonly faults: string[] = []
  /** Answers that a test made itself, which the browser writes to the console. */
  expected: RegExp[] = []

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
      if (message.type() === 'error') tab.note(`console: ${message.text()} ${message.location().url}`)
    })
    page.on('pageerror', (error) => tab.note(`exception: ${error.message}`))
    page.on('dialog', (dialog) => {
      tab.note(`dialog: ${dialog.message()}`)
      void dialog.dismiss()
    })
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`)
      })
    })
    return tab
  }

  note(fault: string): void {
    if (!this.expected.some((pattern) => pattern.test(fault))) this.faults.push(fault)
  }

  /** Nothing went wrong so far. */
  clean(): void {
    expect(this.faults).toEqual([])
  }

  async signIn(email: string): Promise<void> {
    await this.page.goto(`${this.url}/dashboard`)
    await this.page.getByLabel('E-mail').fill(email)
    await this.page.locator('input[type=password]').fill(PASSWORD)
    await this.page.getByRole('button', { name: 'Sign in' }).click()
    await this.page.getByRole('button', { name: 'Your account' }).waitFor()
  }

  /** Clicks a switch where people click it: its input lies hidden under what is painted. */
  async flip(relay: Locator): Promise<void> {
    await relay.locator('.mantine-Switch-track').click()
  }

  async go(path: string): Promise<void> {
    await this.page.goto(`${this.url}/dashboard${path}`)
    await this.settled()
  }

  /** Everything that was asked for is there. */
  async settled(): Promise<void> {
    await this.page.locator('h1').first().waitFor()
    await this.page.waitForFunction(() => document.querySelector('[aria-busy="true"]') === null)
  }

  /** WCAG 2.2 A and AA, as far as axe sees it. */
  async accessible(what: string): Promise<void> {
    // Debuggers are not bound by the page's policy; the page is.
    await this.page.evaluate(AXE)
    const found = await this.page.evaluate(async () => {
      const { axe } = window as unknown as { axe: { run(node: Document, options: unknown): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }> } }
      const done = await axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] })
      return done.violations.map((v) => `${v.id}: ${v.nodes.slice(0, 4).map((n) => `${n.html.slice(0, 160)} ${n.failureSummary}`).join('\n')}`)
    })
    expect(found, what).toEqual([])
  }

  async shot(name: string): Promise<void> {
    mkdirSync(SHOTS, { recursive: true })
    await this.page.screenshot({ path: join(SHOTS, `${name}.png`), animations: 'disabled' })
  }

  async close(): Promise<void> {
    await this.context.close()
  }
}
