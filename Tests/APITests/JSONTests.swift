import Foundation
import Model
import NIOCore
import Testing

@testable import API

@Suite struct JSONTests {
  @Test(
    "documents survive a round trip",
    arguments: [
      #"{"a":1,"b":[true,false,null],"c":{"d":"ü\n\"\\"}}"#, #"[]"#, #"{}"#, #""\u0001""#, "-9223372036854775808",
      "[[[]]]",
    ])
  func roundTrip(text: String) throws {
    #expect(JSONWriter.text(try JSONParser.parse(text.utf8)) == text)
  }

  @Test("escapes and surrogate pairs are decoded")
  func escapes() throws {
    #expect(try JSONParser.parse(#""\ud83d\ude00\u00e9\/\t""#.utf8) == .string("😀é/\t"))
  }

  @Test(
    "malformed JSON is refused",
    arguments: [
      "", "{", "}", "{]", "[1,]", "{\"a\":1,}", "{\"a\"}", "{'a':1}", "01", "1.", ".5", "1e", "+1", "nul", "tru e",
      "\"", "\"\\x\"",
      "\"\\ud800\"", "\"\\udc00\"", "\"\\u12g4\"", "\"\n\"", "{} {}", "{\"a\":1,\"a\":2}", "1e999", "[1 2]",
      "\u{feff}{}", "NaN",
    ])
  func refused(text: String) {
    #expect(throws: MartletError.self) { try JSONParser.parse(text.utf8) }
  }

  @Test("bytes that are not UTF-8 are refused")
  func notUTF8() {
    #expect(throws: MartletError.self) { try JSONParser.parse([0x22, 0xff, 0x22]) }
  }

  @Test("the nesting depth is bounded, so that it cannot exhaust the stack")
  func depth() {
    let text = String(repeating: "[", count: 100_000)
    #expect(throws: MartletError.self) { try JSONParser.parse(text.utf8) }
  }

  @Test("random bytes never trap")
  func fuzz() {
    var generator = SystemRandomNumberGenerator()
    let alphabet = Array("{}[]\",:\\u0123456789truefalsn-+.eE \n\u{7f}".utf8)
    for _ in 0..<5_000 {
      let bytes = (0..<Int.random(in: 0..<40, using: &generator)).compactMap { _ in
        alphabet.randomElement(using: &generator)
      }
      _ = try? JSONParser.parse(bytes)
    }
  }

  @Test("a misspelt field is refused with a suggestion")
  func suggestion() {
    #expect { try JSONFields(["vcpu": 1], allowed: ["vcpus", "memory_mb"]) } throws: { error in
      (error as? MartletError)?.message == #"unknown field "vcpu"; did you mean "vcpus"?"#
    }
  }

  @Test("an error about a field of the wrong type names the field")
  func wrongType() throws {
    let fields = try JSONFields(["vcpus": "two", "args": .array([1])], allowed: ["vcpus", "args"])
    #expect { try fields.integer("vcpus") } throws: {
      ($0 as? MartletError)?.message.contains("vcpus must be a whole number") == true
    }
    #expect { try fields.strings("args") } throws: { ($0 as? MartletError)?.message.contains("args") == true }
  }

  @Test(
    "times are written in RFC 3339",
    arguments: [
      (0, "1970-01-01T00:00:00.000000Z"), (951_827_696.5, "2000-02-29T12:34:56.500000Z"),
      (1_700_000_000.123456, "2023-11-14T22:13:20.123456Z"), (-1, "1969-12-31T23:59:59.000000Z"),
      (-62_135_596_800, "0001-01-01T00:00:00.000000Z"), (4_107_542_399.75, "2100-02-28T23:59:59.750000Z"),
      // Times that a hostile guest may report.
      (-1e300, "0001-01-01T00:00:00.000000Z"), (.nan, "0001-01-01T00:00:00.000000Z"),
      (.infinity, "9999-12-31T23:59:59.000000Z"),
      (9.2e18, "9999-12-31T23:59:59.000000Z"),
    ])
  func times(seconds: Double, text: String) {
    #expect(RFC3339.text(Date(timeIntervalSince1970: seconds)) == text)
  }
}
