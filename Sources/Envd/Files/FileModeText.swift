import CLinux
import Glibc

/// A file mode in Go's format (`drwxr-xr-x`, `Lrwxrwxrwx`, `dtrwxrwxrwx`): every special bit is a letter before the
/// nine permission letters; a regular file has `-` there.
///
/// Source: E2B's envd contract; Go's io/fs.FileMode.String
enum FileModeText {
  static func text(_ mode: mode_t) -> String {
    var letters = typeLetters(mode)
    if mode & S_ISUID != 0 { letters += "u" }
    if mode & S_ISGID != 0 { letters += "g" }
    if mode & S_IFMT == S_IFCHR { letters += "c" }
    if mode & S_ISVTX != 0 { letters += "t" }
    return (letters.isEmpty ? "-" : letters) + permissionLetters(mode)
  }

  private static func typeLetters(_ mode: mode_t) -> String {
    switch mode & S_IFMT {
    case S_IFDIR: "d"
    case S_IFLNK: "L"
    case S_IFBLK, S_IFCHR: "D"
    case S_IFIFO: "p"
    case S_IFSOCK: "S"
    default: ""
    }
  }

  private static func permissionLetters(_ mode: mode_t) -> String {
    var letters = ""
    for (index, letter) in "rwxrwxrwx".enumerated() {
      letters.append(mode & (1 << mode_t(8 - index)) != 0 ? letter : "-")
    }
    return letters
  }
}
