/** Modules of the console that are loaded when they are needed. */
import { ApiError } from './error'
import { serverUrl } from './serverUrl'
import { session } from './session'

const TIMEOUT_MS = 5_000
/** For which script this tab has been reloaded already. */
const RELOADED = 'hexa.reloaded'

/** How often each file failed to load. */
const failed = new Map<string, number>()
let failures = 0

/**
 * What `import()` becomes in the built console (vite.config.ts). A file that failed to load is requested under another
 * URL: browsers up to about Chromium 150 never fetch a module again whose fetch has failed.
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

/** Runs an import; throws `not_loaded` when it fails. */
export async function lazyModule<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch {
    failures += 1
    throw new ApiError('not_loaded', 'this part of the console could not be loaded; check that the server is running, then try again')
  }
}

async function fetchPage(): Promise<string | null> {
  try {
    const response = await fetch(`${serverUrl('')}/dashboard/`, { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) })
    return response.ok ? await response.text() : null
  } catch {
    return null
  }
}

/**
 * Reloads the page when the server serves another version of the console by now, whose files have other names. Once for
 * each version: servers behind a load balancer may differ.
 */
export async function reloadIfReplaced(): Promise<void> {
  const own = document.querySelector('script[type="module"][src]')?.getAttribute('src')
  if (own == null) return
  const served = await fetchPage()
  try {
    if (served === null || served.includes(own) || sessionStorage.getItem(RELOADED) === own) return
    sessionStorage.setItem(RELOADED, own)
    window.location.reload()
  } catch {
    // Without storage it could reload for ever: the page shows the error instead.
  }
}

/**
 * Tries failed modules again. When one still fails although the server answers, the browser has cached the failure of a
 * file that it imports: the page is reloaded, at the same URL and in the same session.
 */
export async function retryModules(load: () => Promise<unknown>): Promise<void> {
  const before = failures
  await load().catch(() => undefined)
  if (failures === before || session.persistenceWarning() !== null) return
  if ((await fetchPage()) !== null) window.location.reload()
}
