/** URLs of servers. `PUBLIC_URL` may have a path, which a proxy removes before the server sees it. */

/** The part of a script's path before `/dashboard/`. */
export function basePathOf(path: string): string {
  const at = path.lastIndexOf('/dashboard/')
  return at < 0 ? '' : path.slice(0, at)
}

const script = document.querySelector<HTMLScriptElement>('script[type="module"][src]')?.src

/** The path that this page's server is below: empty at the root of the host, else such as `/hexa`. */
export const BASE_PATH = script === undefined ? '' : basePathOf(new URL(script).pathname)

/** The URL to which the requests for a server go; an empty `base` is the server that this page came from. */
export const serverUrl = (base: string): string => (base === '' ? window.location.origin + BASE_PATH : base)

/** The base URL that somebody typed: an origin, and a path where it has one; `null` for anything else. */
export function parseServerUrl(text: string): string | null {
  try {
    const url = new URL(text)
    const valid = (url.protocol === 'http:' || url.protocol === 'https:') && url.username === '' && url.password === ''
    if (!valid || url.search !== '' || url.hash !== '') return null
    return `${url.origin}${url.pathname.replace(/\/+$/, '')}`
  } catch {
    return null
  }
}
