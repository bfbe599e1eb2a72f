/** The requests that create, renew and end sessions; only a password change needs an access token. */
import { ApiError, asApiError, fromAnswer, unreachable } from '../error'
import type { components } from '../schema'
import { serverUrl } from '../serverUrl'

export type User = components['schemas']['UserBody']
export type SignedIn = components['schemas']['SignedInBody']

const TIMEOUT_MS = 20_000

/** Whether this browser stores no cookies, so that the page's memory holds the refresh token of its own server too. */
let cookieless = false

export const isCookieless = (): boolean => cookieless
export function setCookieless(value: boolean): void {
  cookieless = value
}

/** Whether the refresh token of this server is in a cookie that no script can read. */
export const usesCookie = (base: string): boolean => base === '' && !cookieless

export const signedOutError = (): ApiError => new ApiError('invalid_token', 'you are signed out; sign in again', 401)

/** Whether the server said that the session does not exist (any more). */
export const isSessionOver = (error: ApiError, base: string): boolean => error.status === 401 || (error.status === 400 && !usesCookie(base))

/** Posts to `/api/v1/auth`, with the cookie where the session uses one. */
export async function postAuth(base: string, path: string, body: unknown, bearer?: string): Promise<Response> {
  const headers = {
    'content-type': 'application/json',
    ...(usesCookie(base) ? { 'x-hexa-session': 'cookie' } : {}),
    ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
  }
  const init = { method: 'POST', headers, body: JSON.stringify(body), signal: AbortSignal.timeout(TIMEOUT_MS) }
  return unreachable(fetch(`${serverUrl(base)}/api/v1/auth/${path}`, { ...init, credentials: usesCookie(base) ? 'same-origin' : 'omit' }))
}

/** The JSON body of an answer; `null` where it has none. */
export async function readJson(response: Response): Promise<unknown> {
  try {
    return (await response.json()) as unknown
  } catch {
    return null
  }
}

/** The body of a successful sign-in; throws an [`ApiError`] otherwise. */
export async function readSignedIn(response: Response): Promise<SignedIn> {
  const body = await readJson(response)
  if (!response.ok) throw fromAnswer(response, body)
  const signedIn = body as SignedIn | null
  if (typeof signedIn?.access_token !== 'string' || typeof signedIn.user.id !== 'string') throw asApiError(new SyntaxError())
  return signedIn
}

export type Registration = components['schemas']['RegistrationBody']

/** Asks a server who may create an account. */
export async function fetchRegistration(base: string, signal: AbortSignal): Promise<Registration> {
  const init = { signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]), credentials: 'omit' as const }
  const response = await unreachable(fetch(`${serverUrl(base)}/api/v1/auth/registration`, init))
  // Older servers have no such setting: anybody may.
  if (response.status === 404) return { mode: 'open', awaits_bootstrap: true }
  const body = await readJson(response)
  if (!response.ok) throw fromAnswer(response, body)
  const found = body as Registration | null
  if (typeof found?.mode !== 'string') throw asApiError(new SyntaxError())
  return found
}

/** Ends the session of an access token whose refresh token was lost. */
export async function revokeOwnSession(base: string, access_token: string): Promise<void> {
  const headers = { authorization: `Bearer ${access_token}` }
  const sessions = `${serverUrl(base)}/api/v1/auth/sessions`
  try {
    const list = (await readJson(await fetch(sessions, { headers }))) as { items: components['schemas']['SessionBody'][] } | null
    const id = list?.items.find((one) => one.current)?.id
    if (id !== undefined) await fetch(`${sessions}/${encodeURIComponent(id)}`, { method: 'DELETE', headers })
  } catch {
    // It expires by itself, and stays in the list of sessions until then.
  }
}
