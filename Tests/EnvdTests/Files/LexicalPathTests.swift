import Testing

@testable import Envd

@Suite("guest paths")
struct LexicalPathTests {
  @Test(
    "paths are resolved against home and default directory and cleaned",
    arguments: [
      ("", "/work"), ("~", "/home/user"), ("~/a", "/home/user/a"), ("a/b", "/home/user/a/b"), ("/a//b/./c/", "/a/b/c"),
      ("../x", "/home/x"), ("/../../etc", "/etc"), ("./", "/home/user"), ("/", "/"), ("a/../../..", "/"),
      ("/tmp/ä b", "/tmp/ä b"),
      ("/a/b/../\u{301}x", "/a/\u{301}x"),
    ])
  func resolve(path: String, expected: String) throws {
    #expect(try LexicalPath.resolve(path, home: "/home/user", defaultWorkdir: "/work") == expected)
  }

  @Test("an empty path is the default directory, which is relative to the home, or the home")
  func emptyPath() throws {
    #expect(try LexicalPath.resolve("", home: "/root", defaultWorkdir: nil) == "/root")
    #expect(try LexicalPath.resolve("", home: "/root", defaultWorkdir: "app") == "/root/app")
  }

  @Test(
    "zero bytes, other users' homes and paths beyond PATH_MAX are refused",
    arguments: ["a\0b", "~root/x", String(repeating: "a", count: 4_096)])
  func refused(path: String) {
    #expect {
      try LexicalPath.resolve(path, home: "/", defaultWorkdir: nil)
    } throws: { ($0 as? FileFailure)?.reason == .invalidArgument }
  }

  @Test(
    "name and parent of a path",
    arguments: [("/", "/", "/"), ("/a", "a", "/"), ("/a/b", "b", "/a"), ("/a/\u{301}b", "\u{301}b", "/a")])
  func parts(path: String, name: String, parent: String) {
    #expect(LexicalPath.name(of: path) == name)
    #expect(LexicalPath.parent(of: path) == parent)
  }
}
