import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'
import react from '@vitejs/plugin-react'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

/** What the server puts in the place of every answer's nonce (core/api/src/dashboard.rs). */
const NONCE = '__HEXA_NONCE__'

/** Every file but the page, compressed in both ways beside itself: the server only hands them out. */
function compressed(): Plugin {
  let out = 'dist'
  return {
    name: 'hexa-compressed',
    apply: 'build',
    configResolved(config) {
      out = config.build.outDir
    },
    closeBundle() {
      const walk = (dir: string) => {
        for (const entry of readdirSync(dir)) {
          const path = join(dir, entry)
          if (statSync(path).isDirectory()) walk(path)
          else if (entry !== 'index.html' && entry !== '.gitkeep') {
            const bytes = readFileSync(path)
            // Fonts are compressed already.
            if (/\.(woff2|br|gz)$/.test(entry)) continue
            const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length }
            writeFileSync(`${path}.br`, brotliCompressSync(bytes, { params }))
            writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }))
          }
        }
      }
      walk(out)
    },
  }
}

/** The page's own address has any depth: what it asks for first is named from the root, where the server may put a path. */
function rooted(): Plugin {
  return {
    name: 'hexa-rooted',
    apply: 'build',
    enforce: 'post',
    generateBundle: {
      order: 'post',
      handler(_, bundle) {
        const page = bundle['index.html']
        const text = page?.type === 'asset' ? String(page.source).replaceAll('"./assets/', '"/dashboard/assets/') : ''
        if (page?.type !== 'asset' || !text.includes('"/dashboard/assets/')) this.error('the page does not name its files as expected')
        page.source = text
      },
    },
  }
}

/**
 * Parts go through `hexaImport` (src/api/lazyModule.ts), which asks for a file under another address when it could not be had
 * before: browsers whose module map keeps failures never fetch the same one again.
 */
function again(): Plugin {
  const IMPORT = /\bimport\(([`'"]\.\/[\w.-]+\.js[`'"])\)/g
  return {
    name: 'hexa-again',
    apply: 'build',
    enforce: 'post',
    generateBundle: {
      order: 'post',
      handler(_, bundle) {
        let parts = 0
        for (const file of Object.values(bundle))
          if (file.type === 'chunk')
            file.code = file.code.replace(IMPORT, (_all, name: string) => {
              parts += 1
              return `hexaImport(${name},e=>import(e))`
            })
        if (parts === 0) this.error('no part of the console is loaded later: do the imports look otherwise by now?')
      },
    },
  }
}

/** Which server the development server stands in front of. */
const server = process.env.HEXA_SERVER ?? 'http://127.0.0.1:8080'

/** `Origin` becomes the server's own, so that sessions in cookies work from here as well. */
const proxied = { target: server, changeOrigin: true, ws: true, headers: { origin: server } }

export default defineConfig(({ command }) => ({
  // Files find each other by where they are themselves: a proxy may serve all of it below a path.
  base: command === 'build' ? './' : '/dashboard/',
  html: { cspNonce: NONCE },
  plugins: [react(), rooted(), again(), compressed()],
  build: {
    target: 'es2022',
    // A page of its own gets only what it shows.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 500,
    // What several pages share is one file: a dozen of a few hundred bytes each cost more as requests than they save.
    rolldownOptions: { output: { codeSplitting: { groups: [{ name: 'shared', minShareCount: 3, minModuleSize: 0, minSize: 0 }] } } },
  },
  server: { proxy: { '/api': proxied, '/ws': proxied, '/metrics': proxied, '/health': proxied } },
  test: { environment: 'jsdom', include: ['src/**/*.test.{ts,tsx}'], setupFiles: ['src/test-setup.ts'] },
}))
