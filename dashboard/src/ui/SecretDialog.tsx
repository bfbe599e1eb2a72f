import { Code, Group, Modal, Stack, Text } from '@mantine/core'
import type { ReactNode } from 'react'
import { Copy } from './CopyButton'

/** Something that the server tells once. */
export function Secret({ title, value, close, children }: { title: string; value: string | null; close: () => void; children: ReactNode }): ReactNode {
  return (
    <Modal opened={value !== null} onClose={close} title={title} closeOnClickOutside={false} closeOnEscape={false} closeButtonProps={{ 'aria-label': 'Close' }}>
      <Stack>
        <Text size="sm" component="div">
          {children}
        </Text>
        <Code block style={{ overflowWrap: 'anywhere', whiteSpace: 'pre-wrap' }} data-secret>
          {value}
        </Code>
        <Group justify="flex-end">
          <Copy text={value ?? ''} />
        </Group>
      </Stack>
    </Modal>
  )
}
