import { Badge } from '@mantine/core'
import type { ReactNode } from 'react'

/** The state in one word, in words and not by colour alone. */
export function PluginState({ state }: { state: string }): ReactNode {
  const good = state === 'active'
  const waits = state === 'compiling' || state === 'half_open' || state === 'degraded'
  return (
    <Badge variant="light" color={good ? 'teal' : waits ? 'yellow' : 'red'} className={`hx-badge ${good ? 'hx-online' : waits ? 'hx-stale' : 'hx-failed'}`}>
      {state.replace('_', ' ')}
    </Badge>
  )
}
