/** Whether the browser stores cookies for this page, tried with one that scripts can read. */

function isCookieStored(name: string, attributes: string): boolean {
  try {
    document.cookie = `${name}=1; Path=/; SameSite=Strict${attributes}`
    const found = document.cookie.split('; ').includes(`${name}=1`)
    document.cookie = `${name}=; Path=/; SameSite=Strict; Max-Age=0${attributes}`
    return found
  } catch {
    return false
  }
}

/**
 * Which cookies the browser stores. `plain`: only those without `Secure`, so that the server's cookie decides (WebKit
 * stores no secure cookies for http://localhost, no browser does over plain HTTP from another machine).
 */
export function cookieSupport(): 'all' | 'plain' | 'none' {
  if (isCookieStored('__Host-hexa_probe', '; Secure')) return 'all'
  return isCookieStored('hexa_probe', '') ? 'plain' : 'none'
}
