/** What a browser keeps of a session, so that it survives a reload. */
import { isStorageAvailable, read, readForTab, remove, storageKey, write, writeForTab } from '../storage'
import type { User } from './authRequests'

/** The refresh token is only here where it cannot be in a cookie. */
export interface SavedSession {
  base: string
  user: User
  id?: string
  since?: number
  refresh_token?: string
}

/** The server of this tab; a new tab starts with the one that was used last. */
export const SERVER_KEY = storageKey('base', '')
/** Set while a sign-out has not reached the server: its cookie must be ended before anything else. */
export const SIGNED_OUT_KEY = storageKey('signed_out', '')

/** Each server has a session of its own, whose tokens are sent to that server only. */
export const sessionKey = (base: string): string => storageKey('session', base)

/** The base URL of the server that this tab, or else any tab, used last. */
export function lastServer(): string {
  const last: unknown = readForTab(SERVER_KEY) ?? read(SERVER_KEY)
  return typeof last === 'string' ? last : ''
}

/** The saved session of a server; `null` where there is none, or where it cannot be read. */
export function savedSession(base: string): SavedSession | null {
  const found = read<Partial<SavedSession>>(sessionKey(base))
  return typeof found?.base === 'string' && typeof found.user?.id === 'string' ? (found as SavedSession) : null
}

/** Whether everything is saved that the next page needs. */
export const isSaved = (base: string): boolean => savedSession(base) !== null && readForTab(SERVER_KEY) === base

/** Saves a session, and that its server is the one in use. */
export function save(session: SavedSession): void {
  const { base } = session
  write(sessionKey(base), session)
  if (base === '') remove(SERVER_KEY)
  else write(SERVER_KEY, base)
  writeForTab(SERVER_KEY, base)
}

/** Why a session cannot survive a reload in this browser; `null` where it can. */
export function persistenceWarning(cookieless: boolean): string | null {
  const missing = cookieless ? 'cookies' : isStorageAvailable() ? null : 'site data'
  if (missing === null) return null
  return `This browser stores no ${missing} for this page: reloading it signs you out. Allow ${missing} for this site to stay signed in.`
}
