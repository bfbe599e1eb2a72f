/**
 * Settings and layout of the console, kept with the account (`/api/v1/preferences`, platform.md 10) and, for the first
 * picture after a reload, in this browser.
 */
import { useSyncExternalStore } from 'react'
import { api, ask } from '../api/client'
import { asApiError } from '../api/error'
import { session } from '../api/session'
import { keyOf, read, write } from '../api/storage'
import { onForget } from './resetSession'

export type Scheme = 'auto' | 'light' | 'dark'
export type Density = 'comfortable' | 'compact'
export type Toasts = 'all' | 'failures' | 'none'

export interface Settings {
  scheme: Scheme
  density: Density
  /** Collapsed cards, by their ids. */
  collapsed: Record<string, boolean>
}

export interface Preferences {
  dashboard_settings: Settings
  /** Orders of cards, by page. */
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

/** Known members over the defaults; what is not of the right kind is left out, whoever wrote it. */
export function sound(given: unknown): Preferences {
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
  const sane: Preferences = {
    dashboard_settings: part('dashboard_settings'),
    dashboard_layout: part('dashboard_layout'),
    device_view_state: part('device_view_state'),
    notification_settings: part('notification_settings'),
  }
  const settings = sane.dashboard_settings
  if (!['auto', 'light', 'dark'].includes(settings.scheme)) settings.scheme = 'auto'
  if (!['comfortable', 'compact'].includes(settings.density)) settings.density = 'comfortable'
  if (!isObject(settings.collapsed)) settings.collapsed = {}
  const { order } = sane.dashboard_layout
  if (!isObject(order) || !Object.values(order).every((list) => Array.isArray(list) && list.every((id) => typeof id === 'string')))
    sane.dashboard_layout = { order: {} }
  if (!['all', 'failures', 'none'].includes(sane.notification_settings.toasts)) sane.notification_settings = { toasts: 'all' }
  return sane
}

/** Changed here, and not yet with the account. */
type Changes = { [N in Name]?: Partial<Preferences[N]> }

const NAMES = Object.keys(DEFAULTS) as Name[]

/** Where this browser keeps those of whoever is here; another server's, and another account's, lie elsewhere. */
function key(): string | null {
  const whose = session.whose()
  return whose === null ? null : keyOf('preferences', whose.base, whose.account)
}

function stored(): Preferences {
  const at = key()
  return sound(at === null ? null : read(at))
}

let current = stored()
let changes: Changes = {}
let problem: Problem = null
/** Nothing is written over what was not read. */
let loaded = false
let saving = false
/** Raised when somebody leaves: what comes for them counts no more. */
let generation = 0
const listeners = new Set<() => void>()
let timer: ReturnType<typeof setTimeout> | undefined

function told(): void {
  for (const listener of listeners) listener()
}

function store(next: Preferences): void {
  current = next
  const at = key()
  if (at !== null) write(at, next)
  told()
}

/** `from`, with the members of `over`. */
function over<T extends Changes>(from: T, over: Changes): T {
  const parts = NAMES.filter((name) => over[name] !== undefined).map((name) => [name, { ...from[name], ...over[name] }])
  return { ...from, ...(Object.fromEntries(parts) as Changes) }
}

function later(ms: number, work: () => Promise<void>): void {
  clearTimeout(timer)
  timer = setTimeout(() => void work(), ms)
}

function failed(thrown: unknown): void {
  const { code, message } = asApiError(thrown)
  problem = { code, message }
  told()
}

// Another tab of this browser changed something: without this, the next change here would undo it.
window.addEventListener('storage', (event) => {
  if (event.key === null || event.key !== key() || event.newValue === null) return
  current = stored()
  told()
})

// Who closes the page at once has changed it all the same.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) void save()
})

/** Reads what the account has; what was changed here meanwhile stays. Tried again until it is there. */
export async function load(): Promise<void> {
  const of = generation
  try {
    const given: unknown = await ask(api().GET('/api/v1/preferences'))
    if (of !== generation) return
    loaded = true
    problem = null
    store(over(sound(given), changes))
    if (Object.keys(changes).length > 0) later(SAVE_AFTER_MS, save)
  } catch (thrown) {
    if (of !== generation) return
    failed(thrown)
    later(RETRY_MS, load)
  }
}

export function change<N extends Name>(name: N, members: Partial<Preferences[N]>): void {
  changes = over(changes, { [name]: members })
  store(over(current, { [name]: members }))
  if (loaded) later(SAVE_AFTER_MS, save)
}

/** Sends what was changed, and only that; tried again later where it fails. */
export async function save(): Promise<void> {
  if (!loaded || saving || Object.keys(changes).length === 0) return
  const [of, sent] = [generation, changes]
  changes = {}
  saving = true
  try {
    await ask(api().PATCH('/api/v1/preferences', { body: sent as never }))
    if (of === generation) problem = null
  } catch (thrown) {
    if (of === generation) {
      changes = over(sent, changes)
      failed(thrown)
      later(RETRY_MS, save)
    }
  }
  saving = false
  if (of !== generation) return
  told()
  if (problem === null && Object.keys(changes).length > 0) later(SAVE_AFTER_MS, save)
}

onForget(() => {
  generation += 1
  clearTimeout(timer)
  changes = {}
  problem = null
  loaded = false
  saving = false
  current = sound(null)
  told()
})

const subscribe = (listener: () => void) => {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const usePreferences = (): Preferences => useSyncExternalStore(subscribe, () => current)
export const usePreferencesProblem = (): Problem => useSyncExternalStore(subscribe, () => problem)
export const usePreferencesSaved = (): boolean => useSyncExternalStore(subscribe, () => !saving && Object.keys(changes).length === 0)
export const preferences = (): Preferences => current
