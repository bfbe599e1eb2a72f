/** What the preferences are, and which stored values are valid. */

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

type Name = keyof Preferences

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
