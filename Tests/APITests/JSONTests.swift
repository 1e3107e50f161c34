import Foundation
import Model
import NIOCore
import Testing

@testable import API

@Suite struct JSONTests {
  @Test(
    "documents come back as they were written",
    arguments: [
      #"{"a":1,"b":[true,false,null],"c":{"d":"ü\n\"\\"}}"#, #"[]"#, #"{}"#, #""\u0001""#, "-9223372036854775808", "[[[]]]",
    ])
  func roundTrip(text: String) throws {
    #expect(JSONWriter.text(try JSONParser.parse(text.utf8)) == text)
  }

  @Test("escapes and surrogate pairs are understood")
  func escapes() throws {
    #expect(try JSONParser.parse(#""\ud83d\ude00\u00e9\/\t""#.utf8) == .string("😀é/\t"))
  }

  @Test(
    "what is not JSON is refused",
    arguments: [
      "", "{", "}", "{]", "[1,]", "{\"a\":1,}", "{\"a\"}", "{'a':1}", "01", "1.", ".5", "1e", "+1", "nul", "tru e", "\"", "\"\\x\"",
      "\"\\ud800\"", "\"\\udc00\"", "\"\\u12g4\"", "\"\n\"", "{} {}", "{\"a\":1,\"a\":2}", "1e999", "[1 2]", "\u{feff}{}", "NaN",
    ])
  func refused(text: String) {
    #expect(throws: MartletError.self) { try JSONParser.parse(text.utf8) }
  }

  @Test("bytes that are not UTF-8 are refused")
  func notUTF8() {
    #expect(throws: MartletError.self) { try JSONParser.parse([0x22, 0xff, 0x22]) }
  }

  @Test("depth is bounded, so that nesting cannot exhaust the stack")
  func depth() {
    let text = String(repeating: "[", count: 100_000)
    #expect(throws: MartletError.self) { try JSONParser.parse(text.utf8) }
  }

  @Test("random bytes never trap")
  func fuzz() {
    var generator = SystemRandomNumberGenerator()
    let alphabet = Array("{}[]\",:\\u0123456789truefalsn-+.eE \n\u{7f}".utf8)
    for _ in 0..<5_000 {
      let bytes = (0..<Int.random(in: 0..<40, using: &generator)).compactMap { _ in alphabet.randomElement(using: &generator) }
      _ = try? JSONParser.parse(bytes)
    }
  }

  @Test("a misspelt field is refused with what was meant")
  func suggestion() {
    #expect { try JSONFields(["vcpu": 1], allowed: ["vcpus", "memory_mb"]) } throws: { error in
      (error as? MartletError)?.message == #"unknown field "vcpu"; did you mean "vcpus"?"#
    }
  }

  @Test("a field of the wrong type is named")
  func wrongType() throws {
    let fields = try JSONFields(["vcpus": "two", "args": .array([1])], allowed: ["vcpus", "args"])
    #expect { try fields.integer("vcpus") } throws: { ($0 as? MartletError)?.message.contains("vcpus must be a whole number") == true }
    #expect { try fields.strings("args") } throws: { ($0 as? MartletError)?.message.contains("args") == true }
  }

  @Test("times are written in RFC 3339", arguments: [0, 951_827_696.5, 1_700_000_000.123456, -1, 4_102_444_799.999999])
  func times(seconds: Double) throws {
    let date = Date(timeIntervalSince1970: seconds)
    let text = RFC3339.text(date)
    let formatter = ISO8601DateFormatter()
    formatter.formatOptions = [.withInternetDateTime]
    let whole = formatter.string(
      from: Date(timeIntervalSince1970: (seconds * 1_000_000).rounded() / 1_000_000 - 0.0000004).addingTimeInterval(0.0000005))
    #expect(text.prefix(19) == whole.prefix(19))
    #expect(text.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/) != nil)
  }
}
