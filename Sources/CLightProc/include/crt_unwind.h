#ifndef CRT_UNWIND_H
#define CRT_UNWIND_H

/* What the stack walker and the symbolizer need from libgcc, glibc and the Swift runtime, and what no module map of the
 * toolchain declares. Declarations only. The asm labels give every symbol a name of ours, so that they do not clash with
 * other declarations of the same function that an importer may have in scope. */

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/auxv.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The bases that relative pointers in a frame description refer to (struct dwarf_eh_bases of libgcc). */
struct crt_ehBases {
  void *textBase;
  void *dataBase;
  void *function;
};

/* The frame description entry that covers an address, or NULL. From GCC 12 with glibc 2.35 on it takes no lock; before
 * that it goes through dl_iterate_phdr and takes the loader's. */
extern const void *crt_findFDE(const void *address, struct crt_ehBases *bases) __asm__("_Unwind_Find_FDE");

/* _Unwind_Backtrace and _Unwind_GetIP, used once at start-up to learn which functions a once passes through. */
struct _Unwind_Context;
extern int crt_unwindBacktrace(int (*visit)(struct _Unwind_Context *, void *), void *argument)
    __asm__("_Unwind_Backtrace");
extern uintptr_t crt_unwindInstruction(struct _Unwind_Context *) __asm__("_Unwind_GetIP");

/* Where an object of the process is mapped. */
struct crt_mapping {
  uintptr_t start;
  uintptr_t end;
};

/* struct dl_find_object of glibc 2.35 and later, whose headers older systems lack. The reserved words cover the fields
 * that some architectures insert. */
struct crt_dlFindObjectResult {
  unsigned long long flags;
  void *mapStart;
  void *mapEnd;
  void *linkMap;
  void *ehFrame;
  uint64_t reserved[8];
};
extern int crt_dlFindObject(void *address, struct crt_dlFindObjectResult *result)
    __asm__("_dl_find_object") __attribute__((weak));

/* True where crt_findMapping can answer: the C library has _dl_find_object. */
static inline bool crt_canFindMappings(void) { return &crt_dlFindObject != NULL; }

/* The object that an address lies in, without a lock.
 * async-signal-safe */
static inline bool crt_findMapping(uintptr_t address, struct crt_mapping *mapping) {
  struct crt_dlFindObjectResult found;
  if (&crt_dlFindObject == NULL || crt_dlFindObject((void *)address, &found) != 0) return false;
  mapping->start = (uintptr_t)found.mapStart;
  mapping->end = (uintptr_t)found.mapEnd;
  return true;
}

/* The leading fields of struct dl_phdr_info, which <link.h> hides without _GNU_SOURCE. */
struct crt_objectHeaders {
  uintptr_t base;
  const char *name;
  const Elf64_Phdr *headers;
  Elf64_Half count;
};
extern int crt_forEachObject(int (*visit)(struct crt_objectHeaders *, size_t, void *), void *argument)
    __asm__("dl_iterate_phdr");

/* The Swift runtime's once, which lazy globals go through. */
extern void crt_swiftOnce(intptr_t *predicate, void (*function)(void *), void *context) __asm__("swift_once");

/* Returns a malloc'ed name when outputBuffer is NULL, and NULL for a name that is not Swift's. */
extern char *crt_swiftDemangle(const char *mangledName, size_t mangledNameLength, char *outputBuffer,
                               size_t *outputBufferSize, uint32_t flags) __asm__("swift_demangle");

/* What we use of elfutils' libdw, which is looked for at run time so that neither the build nor the program needs it.
 * After <elfutils/libdw.h> and <elfutils/libdwfl.h>, whose interface is versioned and stable. */
struct crt_dwarfDie {
  void *address, *unit, *abbreviation;
  long padding;
};
struct crt_dwarfAttribute {
  unsigned code, form;
  void *value, *unit;
};
struct crt_dwarfCallbacks {
  void *findElf, *findDebugInformation, *sectionAddress, *debugInformationPath;
};

/* Function pointers only, in the order in which DwarfLibrary.swift names the functions. */
struct crt_dwarfFunctions {
  void *(*begin)(const struct crt_dwarfCallbacks *callbacks);
  int (*reportProcess)(void *session, int pid);
  int (*reportEnd)(void *session, void *removed, void *argument);
  void (*end)(void *session);
  void *(*moduleAt)(void *session, uintptr_t address);
  struct crt_dwarfDie *(*unitAt)(void *module, uintptr_t address, uintptr_t *bias);
  struct crt_dwarfDie *(*nextUnit)(void *module, struct crt_dwarfDie *previous, uintptr_t *bias);
  int (*hasAddress)(struct crt_dwarfDie *die, uintptr_t address);
  ptrdiff_t (*nextRange)(struct crt_dwarfDie *, ptrdiff_t place, uintptr_t *base, uintptr_t *start, uintptr_t *end);
  int (*firstChild)(struct crt_dwarfDie *die, struct crt_dwarfDie *result);
  int (*nextSibling)(struct crt_dwarfDie *die, struct crt_dwarfDie *result);
  void *(*lineAt)(struct crt_dwarfDie *unit, uintptr_t address);
  const char *(*linePath)(void *line, void *time, void *length);
  int (*lineNumber)(void *line, int *number);
  int (*lineColumn)(void *line, int *column);
  int (*tag)(struct crt_dwarfDie *die);
  const char *(*name)(struct crt_dwarfDie *die);
  struct crt_dwarfAttribute *(*attribute)(struct crt_dwarfDie *, unsigned code, struct crt_dwarfAttribute *result);
  int (*number)(struct crt_dwarfAttribute *, uintptr_t *value);
  const char *(*string)(struct crt_dwarfAttribute *);
  int (*sourceFiles)(struct crt_dwarfDie *unit, void **files, size_t *count);
  const char *(*sourcePath)(void *files, size_t index, void *time, void *length);
};

#ifdef __cplusplus
}
#endif

#endif
