//! stub
pub struct Pool; pub struct Team;
impl Team { pub fn solo() -> Team { Team } pub fn worker(&self)->usize{0} pub fn workers(&self)->usize{1} pub fn barrier(&self){} }
impl Pool { pub fn global() -> &'static Pool { static P: Pool = Pool; &P } pub fn run(&self, _threads: usize, body: &(dyn Fn(&Team)+Sync)) { body(&Team) } }
