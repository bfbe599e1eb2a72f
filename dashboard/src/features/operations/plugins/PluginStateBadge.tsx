import { Badge } from '@mantine/core'
import type { ReactNode } from 'react'

/** The state of a plugin, as text and not by colour alone (WCAG 1.4.1). */
export function PluginStateBadge({ state }: { state: string }): ReactNode {
  const good = state === 'active'
  const warning = state === 'compiling' || state === 'half_open' || state === 'degraded'
  return (
    <Badge variant="light" color={good ? 'teal' : warning ? 'yellow' : 'red'} className={`hx-badge ${good ? 'hx-online' : warning ? 'hx-stale' : 'hx-failed'}`}>
      {state.replace('_', ' ')}
    </Badge>
  )
}
