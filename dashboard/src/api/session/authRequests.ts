/** The requests that make, renew and end sessions: none of them needs an access token. */
import { ApiError, asApiError, fromAnswer, unreachable } from '../error'
import { address } from '../serverUrl'
import type { components } from '../schema'

export type User = components['schemas']['UserBody']
export type SignedIn = components['schemas']['SignedInBody']

const TIMEOUT_MS = 20_000

/** This browser keeps no cookies: the page's memory has the refresh token of its own server as well. */
let cookieless = false

export const isCookieless = (): boolean => cookieless
export function setCookieless(value: boolean): void {
  cookieless = value
}

/** Whether the browser keeps the session with this server where no script reads it. */
export const inCookie = (base: string): boolean => base === '' && !cookieless

export const signedOut = (): ApiError => new ApiError('invalid_token', 'you are signed out', 401)

/** The server says that there is no such session. */
export const isOver = (error: ApiError, base: string): boolean => error.status === 401 || (error.status === 400 && !inCookie(base))

export async function post(base: string, path: string, body: unknown, bearer?: string): Promise<Response> {
  const headers = {
    'content-type': 'application/json',
    ...(inCookie(base) ? { 'x-hexa-session': 'cookie' } : {}),
    ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
  }
  const init = { method: 'POST', headers, body: JSON.stringify(body), signal: AbortSignal.timeout(TIMEOUT_MS) }
  return unreachable(fetch(`${address(base)}/api/v1/auth/${path}`, { ...init, credentials: inCookie(base) ? 'same-origin' : 'omit' }))
}

export async function json(response: Response): Promise<unknown> {
  try {
    return (await response.json()) as unknown
  } catch {
    return null
  }
}

export async function answered(response: Response): Promise<SignedIn> {
  const body = await json(response)
  if (!response.ok) throw fromAnswer(response, body)
  const signedIn = body as SignedIn | null
  if (typeof signedIn?.access_token !== 'string' || typeof signedIn.user.id !== 'string') throw asApiError(new SyntaxError())
  return signedIn
}

export type Registration = components['schemas']['RegistrationBody']

/** Who may make an account there. */
export async function registration(base: string, signal: AbortSignal): Promise<Registration> {
  const init = { signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]), credentials: 'omit' as const }
  const response = await unreachable(fetch(`${address(base)}/api/v1/auth/registration`, init))
  // A server of before, where everybody may.
  if (response.status === 404) return { mode: 'open', awaits_bootstrap: true }
  const body = await json(response)
  if (!response.ok) throw fromAnswer(response, body)
  const found = body as Registration | null
  if (typeof found?.mode !== 'string') throw asApiError(new SyntaxError())
  return found
}

/** Ends the session of an access token whose refresh token nobody has. */
export async function forgetSession(base: string, access_token: string): Promise<void> {
  const headers = { authorization: `Bearer ${access_token}` }
  const sessions = `${address(base)}/api/v1/auth/sessions`
  try {
    const list = (await json(await fetch(sessions, { headers }))) as { items: components['schemas']['SessionBody'][] } | null
    const id = list?.items.find((one) => one.current)?.id
    if (id !== undefined) await fetch(`${sessions}/${encodeURIComponent(id)}`, { method: 'DELETE', headers })
  } catch {
    // It ends by itself, and is in the list of sessions until then.
  }
}
