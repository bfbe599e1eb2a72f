/** Parts of the console that are loaded when they are needed. */
import { ApiError } from './error'

const TIMEOUT_MS = 5_000
/** For which page of a server this page was loaded anew already. */
const RELOADED = 'hexa.reloaded'

/** What `load` imports. */
export async function part<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch {
    throw new ApiError('not_loaded', 'this part of the console could not be loaded; is the server running?')
  }
}

/**
 * Loads the page anew where the server hands out another console by now, whose files have other names: for somebody who
 * sees that a part is missing. Once for each: servers behind a balancer may disagree.
 */
export async function reloadIfReplaced(): Promise<void> {
  const own = document.querySelector('script[type="module"][src]')?.getAttribute('src')
  if (own == null) return
  try {
    const response = await fetch(import.meta.env.BASE_URL, { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) })
    if (!response.ok || (await response.text()).includes(own) || sessionStorage.getItem(RELOADED) === own) return
    sessionStorage.setItem(RELOADED, own)
    window.location.reload()
  } catch {
    // No server, or no storage: the page says what is missing.
  }
}
