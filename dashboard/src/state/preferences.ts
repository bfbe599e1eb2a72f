/**
 * Settings and layout of the console, saved with the account (`/api/v1/preferences`) and, for the first frame after a
 * reload, in this browser.
 */
import { useSyncExternalStore } from 'react'
import { api, unwrap } from '../api/client'
import { asApiError } from '../api/error'
import { session } from '../api/session'
import { storageKey, read, write } from '../api/storage'
import { onSessionReset } from './resetSession'

export type Scheme = 'auto' | 'light' | 'dark'
export type Density = 'comfortable' | 'compact'
export type Toasts = 'all' | 'failures' | 'none'

export interface Settings {
  scheme: Scheme
  density: Density
  /** Whether a card is collapsed, by its id. */
  collapsed: Record<string, boolean>
}

export interface Preferences {
  dashboard_settings: Settings
  /** The order of the cards of each page. */
  dashboard_layout: { order: Record<string, string[]> }
  device_view_state: { last_device: string | null; search: string; presence: string; device_class: string; claimed: string; scope: string; sort: string }
  notification_settings: { toasts: Toasts }
}

export const DEFAULTS: Preferences = {
  dashboard_settings: { scheme: 'auto', density: 'comfortable', collapsed: {} },
  dashboard_layout: { order: {} },
  device_view_state: { last_device: null, search: '', presence: '', device_class: '', claimed: '', scope: '', sort: '' },
  notification_settings: { toasts: 'all' },
}

const SAVE_AFTER_MS = 600
const RETRY_MS = 10_000

type Name = keyof Preferences
type Problem = { code: string; message: string } | null

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The valid members of a stored value, with defaults for all others. */
export function sanitizePreferences(given: unknown): Preferences {
  const from = isObject(given) ? given : {}
  const part = <N extends Name>(name: N): Preferences[N] => {
    const value = from[name]
    const base = DEFAULTS[name] as unknown as Record<string, unknown>
    const next = { ...base }
    if (isObject(value))
      for (const [key, fallback] of Object.entries(base)) {
        const member = value[key]
        if (key === 'last_device' ? member === null || typeof member === 'string' : typeof member === typeof fallback)
          next[key] = member
      }
    return next as unknown as Preferences[N]
  }
  const valid: Preferences = {
    dashboard_settings: part('dashboard_settings'),
    dashboard_layout: part('dashboard_layout'),
    device_view_state: part('device_view_state'),
    notification_settings: part('notification_settings'),
  }
  const settings = valid.dashboard_settings
  if (!['auto', 'light', 'dark'].includes(settings.scheme)) settings.scheme = 'auto'
  if (!['comfortable', 'compact'].includes(settings.density)) settings.density = 'comfortable'
  if (!isObject(settings.collapsed)) settings.collapsed = {}
  const { order } = valid.dashboard_layout
  if (!isObject(order) || !Object.values(order).every((list) => Array.isArray(list) && list.every((id) => typeof id === 'string')))
    valid.dashboard_layout = { order: {} }
  if (!['all', 'failures', 'none'].includes(valid.notification_settings.toasts)) valid.notification_settings = { toasts: 'all' }
  return valid
}

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
