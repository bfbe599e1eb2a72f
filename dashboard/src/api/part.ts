/** Parts of the console that are loaded when they are needed. */
import { ApiError } from './error'

const TIMEOUT_MS = 5_000

/** Whether the server hands out another console than this one by now: its files have other names. */
async function replaced(): Promise<boolean> {
  const own = document.querySelector('script[type="module"][src]')?.getAttribute('src')
  if (own == null) return false
  try {
    const response = await fetch(import.meta.env.BASE_URL, { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) })
    return response.ok && !(await response.text()).includes(own)
  } catch {
    return false
  }
}

/** What `load` imports. Where its file is gone because the server was replaced by another version, the page is loaded anew. */
export async function part<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch {
    if (await replaced()) {
      window.location.reload()
      return new Promise(() => undefined)
    }
    throw new ApiError('not_loaded', 'this part of the console could not be loaded; is the server running?')
  }
}
