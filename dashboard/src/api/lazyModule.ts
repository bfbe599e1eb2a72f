/** Parts of the console that are loaded when they are needed. */
import { ApiError } from './error'
import { address } from './serverUrl'
import { session } from './session'

const TIMEOUT_MS = 5_000
/** For which page of a server this page was loaded anew already. */
const RELOADED = 'hexa.reloaded'

/** How often each file could not be had. */
const failed = new Map<string, number>()
let failures = 0

/**
 * What `import()` becomes in the built console (vite.config.ts). A file that could not be had is asked for under another
 * address: browsers up to about Chromium 150 never fetch a module again whose fetch has failed.
 */
export async function hexaImport<T>(name: string, load: (name: string) => Promise<T>): Promise<T> {
  const before = failed.get(name) ?? 0
  try {
    return await load(before === 0 ? name : `${name}?again=${before}`)
  } catch (thrown) {
    failed.set(name, before + 1)
    throw thrown
  }
}
Object.assign(globalThis, { hexaImport })

/** What `load` imports. */
export async function part<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch {
    failures += 1
    throw new ApiError('not_loaded', 'this part of the console could not be loaded; is the server running?')
  }
}

async function page(): Promise<string | null> {
  try {
    const response = await fetch(`${address('')}/dashboard/`, { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) })
    return response.ok ? await response.text() : null
  } catch {
    return null
  }
}

/**
 * Loads the page anew where the server hands out another console by now, whose files have other names: for somebody who
 * sees that a part is missing. Once for each: servers behind a balancer may disagree.
 */
export async function reloadIfReplaced(): Promise<void> {
  const own = document.querySelector('script[type="module"][src]')?.getAttribute('src')
  if (own == null) return
  const now = await page()
  try {
    if (now === null || now.includes(own) || sessionStorage.getItem(RELOADED) === own) return
    sessionStorage.setItem(RELOADED, own)
    window.location.reload()
  } catch {
    // No storage: the page says what is missing.
  }
}

/**
 * Tries parts again for somebody who asked to. Where one can still not be had though the server is there, the browser
 * keeps a failure of something that the part needs: the page is loaded anew, at the same address and in the same session.
 */
export async function again(load: () => Promise<unknown>): Promise<void> {
  const before = failures
  await load().catch(() => undefined)
  if (failures === before || session.passing() !== null) return
  if ((await page()) !== null) window.location.reload()
}
