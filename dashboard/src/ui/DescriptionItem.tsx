import { Box, Text } from '@mantine/core'
import type { ReactNode } from 'react'

/** A term of a description list (`dl`) with its description. */
export function DescriptionItem({ name, children }: { name: string; children: ReactNode }): ReactNode {
  return (
    <Box miw={0}>
      <Text size="xs" c="dimmed" component="dt">
        {name}
      </Text>
      <Text size="sm" component="dd" m={0} style={{ overflowWrap: 'anywhere' }}>
        {children}
      </Text>
    </Box>
  )
}
