import { ActionIcon, Collapse, Group, Paper, Title } from '@mantine/core'
import { IconArrowDown, IconArrowUp, IconChevronDown, IconChevronRight } from '@tabler/icons-react'
import { type ReactNode, useId } from 'react'
import { changePreferences, usePreferences } from '../state/preferences'
import { ErrorBoundary } from './ErrorBoundary'

interface CardProps {
  /** Identifies the card in the preferences. */
  id: string
  title: string
  children: ReactNode
  /** Shown beside the title. */
  aside?: ReactNode
  /** Moves the card among those of its page. */
  move?: ((by: -1 | 1) => void) | undefined
}

/** A section of a page that can be collapsed, which is saved with the account. */
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
            aria-label={`${open ? 'Collapse' : 'Expand'} ${title}`}
            onClick={() => changePreferences('dashboard_settings', { collapsed: { ...collapsed, [id]: open } })}
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
        {open && <ErrorBoundary title="This cannot be shown">{children}</ErrorBoundary>}
      </Collapse>
    </Paper>
  )
}
