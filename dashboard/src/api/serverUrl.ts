/** Where this page lives: `PUBLIC_URL` may have a path, which a proxy takes away before the server sees it. */

/** What stands before `/dashboard/` in the path of the page's own script. */
export function prefixOf(path: string): string {
  const at = path.lastIndexOf('/dashboard/')
  return at < 0 ? '' : path.slice(0, at)
}

const script = document.querySelector<HTMLScriptElement>('script[type="module"][src]')?.src

/** Empty at the root of the host, else such as `/hexa`. */
export const PREFIX = script === undefined ? '' : prefixOf(new URL(script).pathname)

/** Where the requests for a server go: for the page's own one (an empty `base`) to where the page came from. */
export const address = (base: string): string => (base === '' ? window.location.origin + PREFIX : base)

/** The address of a server as somebody typed it: an origin, and a path where it has one; `null` for anything else. */
export function serverAddress(text: string): string | null {
  try {
    const url = new URL(text)
    const sound = (url.protocol === 'http:' || url.protocol === 'https:') && url.username === '' && url.password === ''
    if (!sound || url.search !== '' || url.hash !== '') return null
    return `${url.origin}${url.pathname.replace(/\/+$/, '')}`
  } catch {
    return null
  }
}
