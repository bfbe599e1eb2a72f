import { ActionIcon, Collapse, Group, Paper, Title } from '@mantine/core'
import { IconChevronDown, IconChevronRight, IconArrowDown, IconArrowUp } from '@tabler/icons-react'
import { type ReactNode, useId } from 'react'
import { change, usePreferences } from '../state/preferences'
import { Boundary } from './ErrorBoundary'

interface CardProps {
  /** In the preferences. */
  id: string
  title: string
  children: ReactNode
  /** Beside the title. */
  aside?: ReactNode
  /** Moves the card among its page's. */
  move?: ((by: -1 | 1) => void) | undefined
}

/** A part of a page that can be folded away; whether it is, is kept with the account. */
export function Card({ id, title, children, aside, move }: CardProps): ReactNode {
  const { collapsed } = usePreferences().dashboard_settings
  const open = collapsed[id] !== true
  const body = useId()
  return (
    <Paper withBorder p="md" component="section" aria-label={title} data-card={id}>
      <Group justify="space-between" wrap="nowrap" mb={open ? 'sm' : 0}>
        <Group gap={4} wrap="nowrap" miw={0}>
          <ActionIcon
            variant="subtle"
            color="gray"
            aria-expanded={open}
            aria-controls={body}
            aria-label={`${open ? 'Fold' : 'Unfold'} ${title}`}
            onClick={() => change('dashboard_settings', { collapsed: { ...collapsed, [id]: open } })}
          >
            {open ? <IconChevronDown size={18} /> : <IconChevronRight size={18} />}
          </ActionIcon>
          <Title order={2} size="h5">
            {title}
          </Title>
        </Group>
        <Group gap={4} wrap="nowrap">
          {aside}
          {move !== undefined && (
            <>
              <ActionIcon variant="subtle" color="gray" aria-label={`Move ${title} up`} onClick={() => move(-1)}>
                <IconArrowUp size={16} />
              </ActionIcon>
              <ActionIcon variant="subtle" color="gray" aria-label={`Move ${title} down`} onClick={() => move(1)}>
                <IconArrowDown size={16} />
              </ActionIcon>
            </>
          )}
        </Group>
      </Group>
      <Collapse expanded={open} id={body}>
        {open && <Boundary title="This cannot be shown">{children}</Boundary>}
      </Collapse>
    </Paper>
  )
}
