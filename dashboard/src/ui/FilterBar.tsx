import { Button, Group } from '@mantine/core'
import { useDisclosure } from '@mantine/hooks'
import { type ReactNode, useId } from 'react'

interface FilterBarProps {
  /** How many filters are on. */
  count: number
  /** The part that is always visible, also on a phone. */
  first?: ReactNode
  align?: 'center' | 'flex-end'
  children: ReactNode
}

/** Filters above a list; on a phone, a button shows them. */
export function FilterBar({ count, first, align, children }: FilterBarProps): ReactNode {
  const [open, { toggle }] = useDisclosure()
  const id = useId()
  return (
    <Group mb="sm" gap="xs" align={align ?? 'center'} role="search">
      {first}
      <Button variant="default" hiddenFrom="sm" aria-expanded={open} aria-controls={id} onClick={toggle}>
        Filters{count > 0 ? ` (${count})` : ''}
      </Button>
      <Group id={id} gap="xs" align={align ?? 'center'} className="hx-filters" data-open={open}>
        {children}
      </Group>
    </Group>
  )
}
