import { Stack, Text } from '@mantine/core'
import type { ReactNode } from 'react'

/** Says that a list is empty; `children` say how something gets there. */
export function EmptyState({ title, children }: { title: string; children?: ReactNode }): ReactNode {
  return (
    <Stack align="center" gap="xs" py="xl" px="md" ta="center">
      <Text fw={600}>{title}</Text>
      <Text c="dimmed" size="sm" maw="34rem" component="div">
        {children}
      </Text>
    </Stack>
  )
}
