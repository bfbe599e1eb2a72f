import { Group, Title } from '@mantine/core'
import { type ReactNode, useEffect } from 'react'

/** The heading of a page, which is also the document's title; `children` are the actions of the whole page. */
export function PageTitle({ title, children }: { title: string; children?: ReactNode }): ReactNode {
  useEffect(() => {
    document.title = `${title} · Hexa`
  }, [title])
  return (
    <Group justify="space-between" mb="md" gap="xs">
      <Title order={1} size="h3" style={{ overflowWrap: 'anywhere' }}>
        {title}
      </Title>
      <Group gap="xs">{children}</Group>
    </Group>
  )
}
