/* A library that is no provider. Its constructor leaves a mark, to show that it never ran. */
#include <stdio.h>
#include <stdlib.h>
#ifdef IMPORTS
/* The name is in its symbol table, but somebody else should have it. */
extern unsigned long C_GetFunctionList(void **list);
unsigned long call(void) { return C_GetFunctionList(NULL); }
#endif
#ifdef HIDDEN
/* It is there, for nobody else. */
__attribute__((visibility("hidden"))) unsigned long C_GetFunctionList(void **list) { return 5; }
#endif
#ifdef DATA
unsigned long C_GetFunctionList = 1;
#endif
const char *words = "C_GetFunctionList";
__attribute__((constructor)) static void loaded(void) {
  const char *mark = getenv("FAKE_MARK");
  if (mark) fclose(fopen(mark, "w"));
}
