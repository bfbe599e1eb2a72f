import { Group, Loader } from '@mantine/core'
import type { ReactNode } from 'react'

/** The placeholder of a page while it is loading. */
export function Spinner(): ReactNode {
  return (
    <Group justify="center" py="xl">
      <Loader aria-label="Loading" />
    </Group>
  )
}
