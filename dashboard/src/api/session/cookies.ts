/** Whether the browser keeps cookies of this page, tried with one that scripts can see. */

function kept(name: string, attributes: string): boolean {
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
 * `none`: no cookie at all. `plain`: those without `Secure` only, so that it depends on the server's (WebKit takes no
 * secure ones from http://localhost, no browser does from another machine over plain HTTP).
 */
export function cookies(): 'all' | 'plain' | 'none' {
  if (kept('__Host-hexa_probe', '; Secure')) return 'all'
  return kept('hexa_probe', '') ? 'plain' : 'none'
}
