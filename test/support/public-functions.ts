/** The functions of the package that return promises or async iterables, as its types have them. */
import { join } from 'node:path';
import ts from 'typescript';

const DIST = join(__dirname, '..', '..', 'dist');
const ENTRIES = ['index.d.ts', join('bench', 'index.d.ts')].map((name) => join(DIST, name));

export type Returns = 'promise' | 'iterable';

/** By name: `revokeMappings`, `Device.spawn` where it is static, `Device#unplug`, `Bus#[Symbol.asyncIterator]`. */
export function asynchronousFunctions(): Map<string, Returns> {
  const program = ts.createProgram(ENTRIES, { lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'], skipLibCheck: true });
  const checker = program.getTypeChecker();
  const found = new Map<string, Returns>();

  const add = (name: string, symbol: ts.Symbol): void => {
    const { valueDeclaration } = symbol;
    if (valueDeclaration === undefined || isInternal(symbol)) return;
    for (const signature of checker.getTypeOfSymbol(symbol).getCallSignatures()) {
      const returns = kindOf(checker, signature.getReturnType());
      if (returns !== undefined) found.set(name, returns);
    }
  };
  const isOurs = (symbol: ts.Symbol): boolean =>
    symbol.declarations?.some((declaration) => declaration.getSourceFile().fileName.startsWith(DIST)) === true;

  for (const entry of ENTRIES) {
    for (const exported of checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(entry)!)!)) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      add(symbol.name, symbol);
      if (!(symbol.flags & ts.SymbolFlags.Class)) continue;
      for (const member of checker.getPropertiesOfType(checker.getTypeOfSymbol(symbol))) {
        if (isOurs(member)) add(`${symbol.name}.${member.name}`, member);
      }
      for (const member of checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol))) {
        if (isOurs(member)) add(`${symbol.name}#${plainName(member.name)}`, member);
      }
    }
  }
  return found;
}

function isInternal(symbol: ts.Symbol): boolean {
  const name = symbol.name;
  return name.startsWith('_') && !name.startsWith('__@') ? true : symbol.getJsDocTags().some((tag) => tag.name === 'internal');
}

/** TypeScript's own name of a member that a symbol names is `__@asyncIterator@123`. */
function plainName(name: string): string {
  const symbol = /^__@(\w+)@\d+$/.exec(name);
  return symbol === null ? name : `[Symbol.${symbol[1]}]`;
}

function kindOf(checker: ts.TypeChecker, type: ts.Type): Returns | undefined {
  if (type.symbol?.name === 'Promise') return 'promise';
  const names = checker.getPropertiesOfType(type).map(({ name }) => plainName(name));
  // Not an object that can be iterated among other things, as a bus.
  return names.includes('[Symbol.asyncIterator]') && names.includes('next') ? 'iterable' : undefined;
}
