import { Badge, Tooltip } from '@mantine/core'
import type { ReactNode } from 'react'
import type { Presence } from '../../state/live'

const COLOURS: Record<Presence, string> = { online: 'teal', stale: 'yellow', offline: 'gray' }
const MEANINGS: Record<Presence, string> = {
  online: 'Connected and responding',
  stale: 'Connected, but no message for longer than expected',
  offline: 'Not connected',
}

/** Whether a device is online, as text and not by colour alone (WCAG 1.4.1). */
export function PresenceBadge({ presence }: { presence: Presence }): ReactNode {
  return (
    <Tooltip label={MEANINGS[presence]}>
      <Badge variant="light" color={COLOURS[presence]} autoContrast className={`hx-badge hx-${presence}`}>
        {presence}
      </Badge>
    </Tooltip>
  )
}
