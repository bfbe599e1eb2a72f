/**
 * Settings and layout of the console, kept with the account (`/api/v1/preferences`, platform.md 10) and, for the first
 * picture after a reload, in this browser.
 */
import { useSyncExternalStore } from 'react'
import { api, ask } from '../api/client'
import { PREFIX, read, write } from '../api/storage'

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

const KEY = `${PREFIX}preferences`
const SAVE_AFTER_MS = 600

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

let current = sound(read(KEY))
let problem: Problem = null
let saved = true
const dirty = new Set<Name>()
const listeners = new Set<() => void>()
let timer: ReturnType<typeof setTimeout> | undefined

function told(): void {
  for (const listener of listeners) listener()
}

function store(next: Preferences): void {
  current = next
  write(KEY, next)
  told()
}

// Another tab of this browser changed something: without this, the next change here would undo it.
window.addEventListener('storage', (event) => {
  if (event.key !== KEY || event.newValue === null) return
  current = sound(read(KEY))
  told()
})

/** Reads what the account has; what was changed here meanwhile stays. */
export async function load(): Promise<void> {
  const given: unknown = await ask(api().GET('/api/v1/preferences'))
  const theirs = sound(given)
  const next = { ...theirs }
  for (const name of dirty) Object.assign(next, { [name]: current[name] })
  store(next)
}

export function change<N extends Name>(name: N, members: Partial<Preferences[N]>): void {
  dirty.add(name)
  saved = false
  store({ ...current, [name]: { ...current[name], ...members } })
  clearTimeout(timer)
  timer = setTimeout(() => void save(), SAVE_AFTER_MS)
}

/** Sends what was changed; tried again with the next change. */
export async function save(): Promise<void> {
  const names = [...dirty]
  if (names.length === 0) return
  dirty.clear()
  const body = Object.fromEntries(names.map((name) => [name, current[name]]))
  try {
    await ask(api().PUT('/api/v1/preferences', { body }))
    problem = null
    saved = dirty.size === 0
  } catch (thrown) {
    for (const name of names) dirty.add(name)
    const error = thrown as { code?: string; message?: string }
    problem = { code: error.code ?? 'unexpected', message: error.message ?? '' }
  }
  told()
}

/** Somebody else may sign in. */
export function reset(): void {
  clearTimeout(timer)
  dirty.clear()
  problem = null
  saved = true
  current = sound(null)
  told()
}

const subscribe = (listener: () => void) => {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const usePreferences = (): Preferences => useSyncExternalStore(subscribe, () => current)
export const usePreferencesProblem = (): Problem => useSyncExternalStore(subscribe, () => problem)
export const usePreferencesSaved = (): boolean => useSyncExternalStore(subscribe, () => saved)
export const preferences = (): Preferences => current
