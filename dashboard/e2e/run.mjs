// Runs a program of this folder, which Node alone cannot read yet: `node e2e/run.mjs figures`.
import { resolve } from 'node:path'
import { runnerImport } from 'vite'

await runnerImport(resolve(import.meta.dirname, `${process.argv[2]}.ts`), { configFile: false, logLevel: 'error' })
