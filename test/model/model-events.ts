/** The layers mean nothing: an archive must not come out. */
export class ModelError extends Error {}

/** What can happen while layers are applied: random layers in which one of these never does would prove little. */
export type ModelEvent =
  | "a whiteout hides something"
  | "a whiteout hides something through a link"
  | "an opaque directory loses something"
  | "a name of a whiteout is content"
  | "an entry goes through a link"
  | "a directory is implied"
  | "a directory is declared again"
  | "a directory replaces a link"
  | "a file becomes a directory"
  | "a type changes"
  | "a path is declared twice in a layer"
  | "the root is described"
  | "a name has .. in it"
  | "a hard link"
  | "a hard link to a symbolic link"
  | "a hard link to what comes later"
  | "a hard link to what the layer hides"
  | "a hard link to a file of AUFS"
  | "a name of several is replaced"
  | "a sparse file"
  | "an attribute is left out"
  | "an attribute of users is left out of what is neither file nor directory"
  | "an attribute is kept";
