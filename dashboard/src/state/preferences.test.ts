import { expect, test } from 'vitest'
import { DEFAULTS, sound } from './preferences'

test('whatever was stored, preferences are sound', () => {
  for (const bad of [null, 7, 'x', [], { dashboard_settings: 3 }, { dashboard_layout: { order: [1] } }, { notification_settings: { toasts: 'loud' } }])
    expect(sound(bad)).toEqual(DEFAULTS)
  const kept = sound({ dashboard_settings: { scheme: 'dark', density: 'huge', collapsed: { a: true }, other: 1 }, device_view_state: { last_device: 'hx1', search: 5 } })
  expect(kept.dashboard_settings).toEqual({ scheme: 'dark', density: 'comfortable', collapsed: { a: true } })
  expect(kept.device_view_state).toEqual({ ...DEFAULTS.device_view_state, last_device: 'hx1' })
  expect(sound({ dashboard_layout: { order: { overview: ['audit', 3] } } }).dashboard_layout).toEqual({ order: {} })
})
