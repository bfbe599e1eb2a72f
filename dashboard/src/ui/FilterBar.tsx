import { Button, Group } from '@mantine/core'
import { useDisclosure } from '@mantine/hooks'
import { type ReactNode, useId } from 'react'

interface FilterBarProps {
  /** How many filters are in effect. */
  used: number
  /** What is there on a phone as well; the rest is behind a button there. */
  first?: ReactNode
  align?: 'center' | 'flex-end'
  children: ReactNode
}

/** Filters above a list; on a phone they open when they are asked for, so that the list is what is seen. */
export function FilterBar({ used, first, align, children }: FilterBarProps): ReactNode {
  const [open, { toggle }] = useDisclosure()
  const id = useId()
  return (
    <Group mb="sm" gap="xs" align={align ?? 'center'} role="search">
      {first}
      <Button variant="default" hiddenFrom="sm" aria-expanded={open} aria-controls={id} onClick={toggle}>
        Filters{used > 0 ? ` (${used})` : ''}
      </Button>
      <Group id={id} gap="xs" align={align ?? 'center'} className="hx-filters" data-open={open}>
        {children}
      </Group>
    </Group>
  )
}
