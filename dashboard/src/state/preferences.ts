/**
 * Settings and layout of the console, saved with the account (`/api/v1/preferences`) and, for the first frame after a
 * reload, in this browser.
 */
import { useSyncExternalStore } from 'react'
import { api, unwrap } from '../api/client'
import { asApiError } from '../api/error'
import { session } from '../api/session'
import { read, storageKey, write } from '../api/storage'
import { DEFAULTS, type Preferences, sanitizePreferences } from './preferencesModel'
import { onSessionReset } from './resetSession'

const SAVE_AFTER_MS = 600
const RETRY_MS = 10_000

type Name = keyof Preferences
type Problem = { code: string; message: string } | null

/** Changes that are not saved with the account yet. */
type Changes = { [N in Name]?: Partial<Preferences[N]> }

const NAMES = Object.keys(DEFAULTS) as Name[]

/** The storage key of the current account's preferences; each server and account has its own. */
function key(): string | null {
  const identity = session.identity()
  return identity === null ? null : storageKey('preferences', identity.base, identity.account)
}

function readStored(): Preferences {
  const at = key()
  return sanitizePreferences(at === null ? null : read(at))
}

let current = readStored()
let changes: Changes = {}
let problem: Problem = null
/** Nothing is saved before the account's preferences were read, so that they are not overwritten. */
let loaded = false
let saving = false
/** Incremented when the session ends: later answers for it are ignored. */
let generation = 0
const listeners = new Set<() => void>()
let timer: ReturnType<typeof setTimeout> | undefined

function notifyListeners(): void {
  for (const listener of listeners) listener()
}

function store(next: Preferences): void {
  current = next
  const at = key()
  if (at !== null) write(at, next)
  notifyListeners()
}

/** The preferences or changes in `from`, with the members of `over`. */
function mergeChanges<T extends Changes>(from: T, over: Changes): T {
  const parts = NAMES.filter((name) => over[name] !== undefined).map((name) => [name, { ...from[name], ...over[name] }])
  return { ...from, ...(Object.fromEntries(parts) as Changes) }
}

function schedule(ms: number, work: () => Promise<void>): void {
  clearTimeout(timer)
  timer = setTimeout(() => void work(), ms)
}

function recordProblem(thrown: unknown): void {
  const { code, message } = asApiError(thrown)
  problem = { code, message }
  notifyListeners()
}

// Another tab changed the preferences: without this, the next change here would undo that.
window.addEventListener('storage', (event) => {
  if (event.key === null || event.key !== key() || event.newValue === null) return
  current = readStored()
  notifyListeners()
})

// A change must not be lost when the page is closed at once.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) void savePreferences()
})

/** Loads the account's preferences, keeping changes that were made meanwhile; repeats until it succeeds. */
export async function loadPreferences(): Promise<void> {
  const of = generation
  try {
    const given: unknown = await unwrap(api().GET('/api/v1/preferences'))
    if (of !== generation) return
    loaded = true
    problem = null
    store(mergeChanges(sanitizePreferences(given), changes))
    if (Object.keys(changes).length > 0) schedule(SAVE_AFTER_MS, savePreferences)
  } catch (thrown) {
    if (of !== generation) return
    recordProblem(thrown)
    schedule(RETRY_MS, loadPreferences)
  }
}

/** Changes members of the preferences, and saves them after a moment. */
export function changePreferences<N extends Name>(name: N, members: Partial<Preferences[N]>): void {
  changes = mergeChanges(changes, { [name]: members })
  store(mergeChanges(current, { [name]: members }))
  if (loaded) schedule(SAVE_AFTER_MS, savePreferences)
}

/** Saves the changed members only; repeats later when it fails. */
export async function savePreferences(): Promise<void> {
  if (!loaded || saving || Object.keys(changes).length === 0) return
  const [of, sent] = [generation, changes]
  changes = {}
  saving = true
  try {
    await unwrap(api().PATCH('/api/v1/preferences', { body: sent as never }))
    if (of === generation) problem = null
  } catch (thrown) {
    if (of === generation) {
      changes = mergeChanges(sent, changes)
      recordProblem(thrown)
      schedule(RETRY_MS, savePreferences)
    }
  }
  saving = false
  if (of !== generation) return
  notifyListeners()
  if (problem === null && Object.keys(changes).length > 0) schedule(SAVE_AFTER_MS, savePreferences)
}

onSessionReset(() => {
  generation += 1
  clearTimeout(timer)
  changes = {}
  problem = null
  loaded = false
  saving = false
  current = sanitizePreferences(null)
  notifyListeners()
})

const subscribe = (listener: () => void) => {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const usePreferences = (): Preferences => useSyncExternalStore(subscribe, () => current)
export const usePreferencesProblem = (): Problem => useSyncExternalStore(subscribe, () => problem)
export const usePreferencesSaved = (): boolean => useSyncExternalStore(subscribe, () => !saving && Object.keys(changes).length === 0)
export const preferences = (): Preferences => current
