//! A static program that writes a text and ends, put together by hand: an ELF header, one loadable segment, eight
//! instructions and the text.

/// Machines the program can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// x86-64.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Machine {
    /// The machine this program runs on, if a program can be made for it.
    pub fn current() -> Option<Machine> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Machine::X86_64),
            "aarch64" => Some(Machine::Aarch64),
            _ => None,
        }
    }

    /// Its name in image configurations.
    pub fn architecture(self) -> &'static str {
        match self {
            Machine::X86_64 => "amd64",
            Machine::Aarch64 => "arm64",
        }
    }
}

/// Where the file is mapped. Code and text are in one piece, so addresses between them do not depend on it.
const BASE: u64 = 0x40_0000;
/// Sizes of the ELF header and of one program header (ELF-64 object file format, version 1.5).
const EHDR: u16 = 64;
const PHDR: u16 = 56;

/// Makes a program that writes `text` to standard output and exits with 0. The text must be shorter than 64 KiB.
pub fn elf(text: &str, machine: Machine) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a greeting is shorter than 64 KiB");
    let code = match machine {
        Machine::X86_64 => x86_64(length),
        Machine::Aarch64 => aarch64(length),
    };
    let size = u64::from(EHDR) + u64::from(PHDR) + (code.len() + text.len()) as u64;
    let mut file = header(machine);
    file.extend(segment(size));
    file.extend(code);
    file.extend(text.as_bytes());
    file
}

fn header(machine: Machine) -> Vec<u8> {
    let number: u16 = match machine {
        Machine::X86_64 => 62,
        Machine::Aarch64 => 183,
    };
    // 64-bit, little-endian, version 1, System V.
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend(2u16.to_le_bytes()); // an executable
    out.extend(number.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend((BASE + u64::from(EHDR + PHDR)).to_le_bytes()); // entry
    out.extend(u64::from(EHDR).to_le_bytes()); // program headers follow
    out.extend(0u64.to_le_bytes()); // no sections
    out.extend(0u32.to_le_bytes()); // no flags
    for half in [EHDR, PHDR, 1, 0, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    out
}

/// The whole file, readable and executable.
fn segment(size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(1u32.to_le_bytes()); // PT_LOAD
    out.extend(5u32.to_le_bytes()); // PF_R | PF_X
    for word in [0, BASE, BASE, size, size, 0x1_0000] {
        out.extend(u64::to_le_bytes(word));
    }
    out
}

fn x86_64(length: u16) -> Vec<u8> {
    let mut code = vec![
        0xb8, 1, 0, 0, 0, // mov eax, 1 (write)
        0xbf, 1, 0, 0, 0, // mov edi, 1
        0x48, 0x8d, 0x35, 16, 0, 0, 0,    // lea rsi, [rip + 16] (the text)
        0xba, // mov edx, length
    ];
    code.extend(u32::from(length).to_le_bytes());
    code.extend([
        0x0f, 0x05, // syscall
        0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
        0x31, 0xff, // xor edi, edi
        0x0f, 0x05, // syscall
    ]);
    code
}

fn aarch64(length: u16) -> Vec<u8> {
    let instructions: [u32; 8] = [
        0xd280_0020,                            // mov x0, #1
        0x1000_00e1,                            // adr x1, #28 (the text)
        0xd280_0002 | (u32::from(length) << 5), // mov x2, #length
        0xd280_0808,                            // mov x8, #64 (write)
        0xd400_0001,                            // svc #0
        0xd280_0000,                            // mov x0, #0
        0xd280_0ba8,                            // mov x8, #93 (exit)
        0xd400_0001,                            // svc #0
    ];
    instructions
        .iter()
        .flat_map(|instruction| instruction.to_le_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn the_program_prints_its_text_and_ends_well() {
        let Some(machine) = Machine::current() else {
            eprintln!(
                "skipped: no program can be made for {}",
                std::env::consts::ARCH
            );
            return;
        };
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hello");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(&path)
            .expect("a file");
        file.write_all(&elf("hello\nthere\n", machine))
            .expect("written");
        drop(file);
        let output = std::process::Command::new(&path).output().expect("it runs");
        assert_eq!(
            (output.stdout.as_slice(), output.status.code()),
            (&b"hello\nthere\n"[..], Some(0))
        );
    }

    #[test]
    fn texts_follow_the_code_on_both_machines() {
        for (machine, code_length) in [(Machine::X86_64, 33), (Machine::Aarch64, 32)] {
            let file = elf("text", machine);
            assert_eq!(file.len(), 120 + code_length + 4);
            assert!(file.ends_with(b"text"));
        }
    }
}
