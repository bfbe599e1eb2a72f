import { Skeleton, Stack } from '@mantine/core'
import type { ReactNode } from 'react'

/** The placeholder of a list while it is loading. */
export function LoadingRows({ rows = 4 }: { rows?: number }): ReactNode {
  return (
    <Stack gap="xs" aria-busy="true" aria-label="Loading">
      {Array.from({ length: rows }, (_, n) => (
        <Skeleton key={n} h={28} />
      ))}
    </Stack>
  )
}
